"""Requests that are asked one by one and answered together, on a clock that the tests turn."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, cast

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from llm_net import Deterministic, GenAgent, GenNetwork, Message, ModuleLLM
from llm_net.errors import ModelCallError, UsageError
from llm_net.llm.batch_queue import BatchModel, BatchStatistics
from llm_net.llm.batching import Batched, BatchProcessor
from llm_net.llm.model import Completion, Model, Request
from llm_net.llm.scripted import FunctionModel, ScriptedModel
from tests.waiting import DEADLINE_S

INTERVAL = 1.0


def ask(text: str, place: str = "", **params: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), params=params, place=place)


class Echo:
    """A model that answers in batches, with what it was asked; `bad…` fails."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def complete(self, request: Request) -> Completion:
        raise AssertionError("asked past the queue")

    async def acomplete(self, request: Request) -> Completion:
        raise AssertionError("asked past the queue")

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Exception]:
        self.batches.append(list(requests))
        return [self.answer(request) for request in requests]

    def answer(self, request: Request) -> Completion | Exception:
        text = request.prompt
        return ModelCallError(text) if text.startswith("bad") else Completion(text=text)

    @property
    def prompts(self) -> list[list[str]]:
        return [[request.prompt for request in batch] for batch in self.batches]


class TurnedHost:
    """A clock that is turned by hand; batches begin when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self.works: list[Callable[[], None]] = []
        self.count = 0

    def later(self, delay: float, ring: Callable[[], None]) -> Callable[[], object]:
        self.count += 1
        number = self.count
        self.timers[number] = (self.now + delay, ring)
        return lambda: self.timers.pop(number, None)

    def run(self, work: Callable[[], None]) -> object:
        self.works.append(work)
        return None

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for number, (when, ring) in sorted(self.timers.items()):
            if when <= self.now and number in self.timers:
                del self.timers[number]
                ring()

    def work(self) -> None:
        while self.works:
            self.works.pop(0)()


class Turned:
    """A processor of Echo on a turned clock."""

    def __init__(self, **options: Any) -> None:
        self.host = TurnedHost()
        self.model = Echo()
        self.processor = BatchProcessor(
            self.model, **{"flush_interval": INTERVAL, "host": self.host, **options}
        )

    def settle(self) -> None:
        """Turn the clock until everybody has waited long enough, and all batches are done."""
        self.host.advance(INTERVAL)
        self.host.work()


# Schedules of every kind.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 40)),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        st.tuples(st.just("work"), st.none()),
    ),
    max_size=60,
)


@given(steps=STEPS, max_batch=st.integers(1, 5))
def test_every_request_is_answered_once_or_left_in_batches_of_one_set_each_in_order(
    steps: list[tuple[str, Any]], max_batch: int
) -> None:
    turned = Turned(max_batch=max_batch)
    host, model, processor = turned.host, turned.model, turned.processor
    asked: list[tuple[Request, Future[Completion]]] = []
    left_in_time: set[str] = set()

    def were_asked() -> set[str]:
        return {prompt for batch in model.prompts for prompt in batch}

    for step, value in steps:
        if step == "ask":
            request = ask(str(len(asked)), temperature=value, max_tokens=len(asked) + 1)
            asked.append((request, processor.submit(request)))
        elif step == "leave" and value < len(asked):
            request, future = asked[value]
            taken_out = future.cancel()
            # A batch that is out, but has not begun, has its requests already.
            if taken_out and not host.works and request.prompt not in were_asked():
                left_in_time.add(request.prompt)
        elif step == "advance":
            host.advance(value)
            if value >= INTERVAL and not host.works:
                waiting = [future for _, future in asked if not future.done()]
                assert not waiting, "somebody waited longer than the interval"
        elif step == "work":
            host.work()
        assert len(host.works) <= 1, "two batches at once"
    turned.settle()

    assert not [future for _, future in asked if not future.done()]
    event(f"left in time: {bool(left_in_time)}")
    event(f"batches: {min(len(model.batches), 5)}")
    for request, future in asked:
        batches_with_it = sum(request in batch for batch in model.batches)
        if future.cancelled():
            assert batches_with_it <= (request.prompt not in left_in_time)
        else:
            assert batches_with_it == 1
            assert future.result().text == request.prompt
    for batch in model.batches:
        assert len(batch) <= max_batch
        assert len({request.params["temperature"] for request in batch}) == 1
    for value in range(3):
        same = [r for batch in model.batches for r in batch if r.params["temperature"] == value]
        assert [int(r.prompt) for r in same] == sorted(int(r.prompt) for r in same)
    statistics = processor.statistics()
    assert statistics.requests == sum(map(len, model.batches))
    assert (statistics.batches, statistics.largest) == (
        len(model.batches),
        max(map(len, model.batches), default=0),
    )
    assert not host.timers


@given(
    prompts=st.lists(st.sampled_from(["a", "b", "bad c"]), max_size=20),
    leaving=st.sets(st.integers(0, 19)),
)
def test_every_caller_of_a_shared_request_gets_its_answer_or_leaves_alone(
    prompts: list[str], leaving: set[int]
) -> None:
    turned = Turned(share_identical=True, max_batch=50)
    futures = [
        turned.processor.submit(ask(prompt, place=f"agent-{number}"))
        for number, prompt in enumerate(prompts)
    ]
    for number in leaving & set(range(len(futures))):
        futures[number].cancel()
    turned.settle()
    staying = [n for n in range(len(futures)) if n not in leaving]
    wanted = {prompts[n] for n in staying}
    asked = [prompt for batch in turned.model.prompts for prompt in batch]
    assert sorted(asked) == sorted(wanted)
    for number in staying:
        if prompts[number].startswith("bad"):
            with pytest.raises(ModelCallError, match="bad c"):
                futures[number].result(0)
        else:
            assert futures[number].result(0).text == prompts[number]


# When a batch goes out.


def test_a_full_batch_does_not_wait_for_the_clock() -> None:
    turned = Turned(max_batch=3)
    futures = [turned.processor.submit(ask(text)) for text in "abc"]
    turned.host.work()
    assert [future.result(0).text for future in futures] == ["a", "b", "c"]
    assert not turned.host.timers


def test_the_interval_begins_with_the_first_request() -> None:
    turned = Turned()
    turned.processor.submit(ask("a"))
    turned.host.advance(0.6)
    turned.processor.submit(ask("b"))
    turned.host.advance(0.4)
    turned.host.work()
    assert turned.model.prompts == [["a", "b"]]


def test_what_comes_while_a_batch_is_out_gathers_for_the_next() -> None:
    turned = Turned(max_batch=2)
    for text in "ab":
        turned.processor.submit(ask(text))
    for text in "cdef":
        turned.processor.submit(ask(text))
        turned.host.advance(INTERVAL)
    assert len(turned.host.works) == 1
    turned.host.work()
    assert turned.model.prompts == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_a_set_with_one_request_is_not_starved_by_one_with_many() -> None:
    turned = Turned(max_batch=4)
    for number in range(100):
        turned.processor.submit(ask(f"many {number}", temperature=1))
    one = turned.processor.submit(ask("one", temperature=2))
    turned.host.works.pop(0)()
    turned.host.works.pop(0)()
    turned.host.works.pop(0)()
    assert one.done()
    turned.host.work()
    assert [len(batch) for batch in turned.model.batches] == [4, 4, 1, *[4] * 23]


def test_lengths_and_ends_do_not_part_a_batch_and_sampling_does() -> None:
    turned = Turned()
    turned.processor.submit(ask("a", max_tokens=5, stop=["."], timeout=3, temperature=1))
    turned.processor.submit(ask("b", temperature=1))
    turned.processor.submit(ask("c", temperature=1.0))  # may be another thing to a provider
    turned.processor.submit(ask("d", temperature=1, logit_bias={"7": -1}))
    turned.settle()
    assert turned.model.prompts == [["a", "b"], ["c"], ["d"]]


def test_flush_sends_what_waits() -> None:
    turned = Turned()
    turned.processor.flush()
    future = turned.processor.submit(ask("a"))
    turned.processor.flush()
    turned.host.work()
    assert future.result(0).text == "a"
    assert turned.processor.statistics() == BatchStatistics(batches=1, requests=1, largest=1)
    assert turned.processor.statistics().mean == 1
    assert BatchStatistics().mean == 0


@pytest.mark.parametrize(
    "options", [{"max_batch": 0}, {"flush_interval": -1}, {"flush_interval": float("nan")}]
)
def test_a_queue_that_can_never_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="max_batch >= 1"):
        BatchProcessor(Echo(), **options)


# Failures, and callers that leave.


def test_one_that_fails_fails_alone() -> None:
    turned = Turned()
    good, bad, fine = (turned.processor.submit(ask(text)) for text in ("good", "bad", "fine"))
    turned.settle()
    assert (good.result(0).text, fine.result(0).text) == ("good", "fine")
    with pytest.raises(ModelCallError, match="bad"):
        bad.result(0)


def test_a_batch_that_fails_fails_all_its_requests_and_no_other() -> None:
    class Breaking(Echo):
        def complete_many(self, requests: Sequence[Request]) -> list[Completion | Exception]:
            if requests[0].prompt == "break":
                raise ModelCallError("broken")
            return super().complete_many(requests)

    turned = Turned()
    turned.processor = BatchProcessor(Breaking(), flush_interval=INTERVAL, host=turned.host)
    broken = [turned.processor.submit(ask(text)) for text in ("break", "a")]
    turned.settle()
    whole = turned.processor.submit(ask("b"))
    turned.settle()
    for future in broken:
        with pytest.raises(ModelCallError, match="broken"):
            future.result(0)
    assert whole.result(0).text == "b"


def test_answers_that_do_not_match_their_requests_are_given_to_nobody() -> None:
    class Short(Echo):
        def complete_many(self, requests: Sequence[Request]) -> list[Completion | Exception]:
            return super().complete_many(requests)[1:]

    host = TurnedHost()
    processor = BatchProcessor(Short(), flush_interval=INTERVAL, host=host)
    futures = [processor.submit(ask(text)) for text in "ab"]
    host.advance(INTERVAL)
    host.work()
    for future in futures:
        with pytest.raises(ModelCallError, match="1 answers to 2 requests"):
            future.result(0)


def test_without_a_thread_to_be_had_the_callers_hear_of_it() -> None:
    class Full(TurnedHost):
        def run(self, work: Callable[[], None]) -> object:
            raise RuntimeError("can't start new thread")

    processor = BatchProcessor(Echo(), max_batch=1, host=Full())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="start new thread"):
            processor.submit(ask("a")).result(0)


def test_a_caller_that_leaves_a_batch_that_is_out_harms_nobody() -> None:
    turned = Turned(max_batch=2)
    gone, stays = (turned.processor.submit(ask(text)) for text in "ab")
    assert gone.cancel()
    turned.host.work()
    assert stays.result(0).text == "b"
    assert wait([gone], 0).done, "whoever waits for the end of what was cancelled hears of it"


def test_if_all_leave_nothing_is_asked_and_no_timer_is_left() -> None:
    turned = Turned(max_batch=10)
    futures = [turned.processor.submit(ask(text)) for text in "abc"]
    for future in futures:
        future.cancel()
    assert not turned.host.timers
    turned.settle()
    assert turned.model.batches == []


def test_a_timeout_takes_the_request_out_of_the_queue() -> None:
    turned = Turned()
    with pytest.raises(ModelCallError, match=r"no answer within 0\.01 s"):
        Batched(turned.processor).complete(ask("a", timeout=0.01))
    with pytest.raises(ModelCallError, match=r"no answer within 0\.01 s"):
        asyncio.run(Batched(turned.processor).acomplete(ask("a", timeout=0.01)))
    assert not turned.host.timers
    turned.settle()
    assert turned.model.batches == []


# Sharing.


def test_identical_requests_share_an_answer_only_if_asked_to() -> None:
    for share, sizes in ((False, [3]), (True, [1])):
        turned = Turned(share_identical=share)
        futures = [turned.processor.submit(ask("a", place=place)) for place in "xyz"]
        turned.settle()
        assert [future.result(0).text for future in futures] == ["a"] * 3
        assert [len(batch) for batch in turned.model.batches] == sizes


def test_a_request_joins_one_that_is_under_way_but_not_one_that_is_answered() -> None:
    turned = Turned(share_identical=True, max_batch=1)
    first = turned.processor.submit(ask("a"))
    second = turned.processor.submit(ask("a"))
    turned.host.work()
    assert first.result(0) is second.result(0)
    turned.processor.submit(ask("a"))
    turned.host.work()
    assert turned.model.prompts == [["a"], ["a"]]


def test_an_answer_that_nobody_wanted_any_more_does_not_disturb_who_asks_the_same_anew() -> None:
    turned = Turned(share_identical=True, max_batch=1)
    turned.processor.submit(ask("a")).cancel()
    second = turned.processor.submit(ask("a"))
    turned.host.works.pop(0)()
    third = turned.processor.submit(ask("a"))
    turned.host.work()
    assert second.result(0) is third.result(0)
    assert turned.model.prompts == [["a"], ["a"]]


@pytest.mark.parametrize(
    "other",
    [
        ask("b"),
        ask("a", seed=True),
        ask("a", seed=1.0),
        ask("a", max_tokens=3),
        Request(messages=ask("a").messages, params={"seed": 1}, tools=({"type": "function"},)),
        Request(messages=ask("a").messages, params={"seed": 1}, response_format={"type": "object"}),
    ],
)
def test_requests_that_differ_in_anything_but_their_place_share_nothing(other: Request) -> None:
    turned = Turned(share_identical=True)
    futures = [turned.processor.submit(request) for request in (ask("a", seed=1), other)]
    turned.settle()
    assert futures[0].result(0) is not futures[1].result(0)


def test_what_cannot_be_compared_is_shared_with_nobody() -> None:
    turned = Turned(share_identical=True)
    for _ in range(2):
        turned.processor.submit(ask("a", logits=bytearray(b"x")))
    turned.settle()
    assert sum(map(len, turned.model.batches)) == 2


# Models that know no batches.


class Slow:
    """A model that answers when it is let, and counts who gave up."""

    def __init__(self, expected: int) -> None:
        self.all_are_here = threading.Barrier(expected + 1)
        self.cancelled = threading.Event()
        self.asked: list[str] = []

    def complete(self, request: Request) -> Completion:
        raise AssertionError("asked past the queue")

    async def acomplete(self, request: Request) -> Completion:
        self.asked.append(request.prompt)
        try:
            await asyncio.to_thread(self.all_are_here.wait, DEADLINE_S)
            if request.prompt == "for ever":
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if request.prompt.startswith("bad"):
            raise ModelCallError(request.prompt)
        return Completion(text=request.prompt)


def test_of_a_model_without_batches_all_requests_of_one_are_asked_at_once() -> None:
    model = Slow(3)
    assert not isinstance(model, BatchModel)
    processor = BatchProcessor(model, max_batch=3)
    futures = [processor.submit(ask(text)) for text in ("a", "bad", "c")]
    model.all_are_here.wait(DEADLINE_S)
    assert [futures[n].result(DEADLINE_S).text for n in (0, 2)] == ["a", "c"]
    with pytest.raises(ModelCallError, match="bad"):
        futures[1].result(DEADLINE_S)
    processor.close()


def test_a_call_that_nobody_waits_for_any_more_is_called_off() -> None:
    model = Slow(2)
    processor = BatchProcessor(model, max_batch=2, share_identical=True)
    futures = [processor.submit(ask(text)) for text in ("for ever", "for ever", "a")]
    model.all_are_here.wait(DEADLINE_S)
    assert futures[2].result(DEADLINE_S).text == "a"
    futures[0].cancel()
    assert not model.cancelled.is_set()
    futures[1].cancel()
    assert model.cancelled.wait(DEADLINE_S)
    processor.close()


# Many callers of every kind.


@pytest.mark.parametrize("model", [Echo(), FunctionModel(lambda request: request.prompt)])
def test_threads_and_loops_may_all_ask_at_once(model: Model) -> None:
    batched = Batched(BatchProcessor(model, max_batch=16, flush_interval=0.001))

    def blocking(number: int) -> list[str]:
        return [batched.complete(ask(f"{number}.{n}")).text for n in range(10)]

    def looping(number: int) -> list[str]:
        async def one(n: int) -> str:
            return (await batched.acomplete(ask(f"{number}.{n}"))).text

        async def main() -> list[str]:
            return await asyncio.gather(*map(one, range(10)))

        return asyncio.run(main())

    kinds = [blocking, looping] * 4
    with ThreadPoolExecutor(len(kinds)) as pool:
        running = [pool.submit(kind, number) for number, kind in enumerate(kinds)]
        for number, future in enumerate(running):
            assert future.result(DEADLINE_S) == [f"{number}.{n}" for n in range(10)]
    statistics = batched.processor.statistics()
    assert statistics.requests == 80
    assert statistics.largest <= 16
    assert statistics.batches < 80
    batched.processor.close()


def test_a_cancelled_task_leaves_the_queue() -> None:
    turned = Turned()
    batched = Batched(turned.processor)

    async def main() -> str:
        gone = asyncio.ensure_future(batched.acomplete(ask("gone")))
        stays = asyncio.ensure_future(batched.acomplete(ask("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        turned.settle()
        return (await stays).text

    assert asyncio.run(main()) == "stays"
    assert turned.model.prompts == [["stays"]]


class Asking(GenAgent):
    llm: ModuleLLM

    async def astep(self, message: Message) -> None:
        self.emit("out", str(await self.llm.agenerate(self.name)))


class AskingOnAThread(GenAgent):
    llm: ModuleLLM

    def step(self, message: Message) -> None:
        self.emit("out", str(self.llm.generate(self.name)))


@pytest.mark.parametrize("kind", [Asking, AskingOnAThread])
def test_agents_of_a_deterministic_run_share_a_batch(
    kind: type[Asking | AskingOnAThread],
) -> None:
    names = [f"a{number}" for number in range(5)]
    traces: list[str | None] = []
    for _ in range(2):
        model = Echo()
        # The clock does not matter: all five are out before the run waits for any of them.
        processor = BatchProcessor(model, max_batch=5, flush_interval=DEADLINE_S)
        agents = [kind(name=name, llm=ModuleLLM(Batched(processor))) for name in names]
        net = GenNetwork(name="net", agents=agents, entry=names, expose=["out"])
        run = net.run("go", runtime=Deterministic(4))
        assert run.failures == ()
        assert sorted(output.body for output in run.outputs) == names
        assert [sorted(batch) for batch in model.prompts] == [names]
        traces.append(run.trace)
    assert traces[0] == traces[1]


# Streams.


def test_streams_go_past_the_queue_if_the_model_can_and_through_it_if_not() -> None:
    async def read(model: Batched) -> list[str]:
        return [str(chunk) async for chunk in model.astream(ask("a"))]

    streaming = Batched(BatchProcessor(ScriptedModel({"a": "one two"}), host=TurnedHost()))
    assert [str(chunk) for chunk in streaming.stream(ask("a"))] == ["one", " two", ""]
    assert asyncio.run(read(streaming)) == ["one", " two", ""]

    batched = Batched(BatchProcessor(Echo(), max_batch=1))
    (chunk,) = batched.stream(ask("a"))
    assert (chunk.text, chunk.completion) == ("a", Completion(text="a"))
    assert asyncio.run(read(batched)) == ["a"]
    assert batched.processor.statistics().requests == 2


# Beginning and end.


def test_a_closed_processor_has_answered_all_and_takes_no_more() -> None:
    with BatchProcessor(Echo(), flush_interval=DEADLINE_S * 10) as processor:
        futures = [processor.submit(ask(text)) for text in "abc"]
    assert [future.result(0).text for future in futures] == ["a", "b", "c"]
    assert processor.is_closed
    with pytest.raises(UsageError, match="is closed"):
        processor.submit(ask("d"))
    processor.close()  # twice is no harm


def test_close_returns_after_the_last_answer() -> None:
    class Gated(Echo):
        def complete_many(self, requests: Sequence[Request]) -> list[Completion | Exception]:
            gate.wait(DEADLINE_S)
            order.append("answered")
            return super().complete_many(requests)

    gate, order = threading.Event(), list[str]()
    processor = BatchProcessor(Gated(), max_batch=1)
    processor.submit(ask("a"))

    def close() -> None:
        processor.close()
        order.append("closed")

    closing = threading.Thread(target=close)
    closing.start()
    while not processor.is_closed:
        pass
    gate.set()
    closing.join(DEADLINE_S)
    assert order == ["answered", "closed"]


def test_threads_come_with_the_first_request_and_go_with_the_last_answer() -> None:
    def ours() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "llm_net-model-call"]

    before = len(ours())
    processor = BatchProcessor(Echo(), max_batch=1)
    assert len(ours()) == before
    with processor:
        processor.submit(ask("a"))
    for thread in threading.enumerate():
        if thread.name == "llm_net-model-call":
            thread.join(DEADLINE_S)
    assert len(ours()) <= before


def test_a_configuration_has_one_processor_for_as_long_as_somebody_holds_it() -> None:
    def make() -> BatchProcessor:
        return BatchProcessor(Echo())

    first = BatchProcessor.shared("a", make)
    assert BatchProcessor.shared("a", make) is first
    assert BatchProcessor.shared("b", make) is not first
    first.close()
    second = BatchProcessor.shared("a", make)
    assert second is not first
    model = cast("Echo", second.model)
    del first, second
    gc.collect()
    assert BatchProcessor.shared("a", make).model is not model


AT_THE_END = """
import threading
from llm_net.llm.batching import BatchProcessor
from llm_net.llm.model import Completion, Request

class Stuck:
    def complete(self, request): ...
    async def acomplete(self, request): ...
    def complete_many(self, requests):
        begun.set()
        threading.Event().wait()

begun = threading.Event()
processor = BatchProcessor(Stuck(), max_batch=2)
for _ in range(3):
    processor.submit(Request(messages=()))
begun.wait()
print("bye")
"""


def test_a_batch_that_never_ends_does_not_keep_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END],
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")


IN_A_CHILD = """
import os, warnings
from llm_net.llm.batching import BatchProcessor
from llm_net.llm.model import Completion, Request

class Echo:
    def complete(self, request): ...
    async def acomplete(self, request): ...
    def complete_many(self, requests):
        return [Completion(text=str(len(requests)))] * len(requests)

def make():
    return BatchProcessor(Echo(), flush_interval=0.001)

warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads is what is tried
request = Request(messages=())
processor = BatchProcessor.shared("echo", make)
assert processor.submit(request).result(60).text == "1"
with processor._queue._changed:
    waiting = processor.submit(request)  # the parent's; its lock is held while the child is made
    child = os.fork()
if child == 0:
    assert BatchProcessor.shared("echo", make) is processor
    assert processor.submit(request).result(60).text == "1"
    assert processor.statistics().batches == 1
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert waiting.result(60).text == "1"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_in_a_forked_child_the_queue_begins_anew() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD],
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
