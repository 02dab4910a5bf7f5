"""Limits: the cap, the rates, retries that stop, the circuit; and the next model."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net import Deterministic, GenAgent, GenNetwork, Message, ModuleLLM
from llm_net.errors import (
    AnswerError,
    BudgetExceeded,
    CircuitOpen,
    ModelCallError,
    ModelError,
    ModelSetupError,
    UsageError,
)
from llm_net.llm.breaker import Breaker
from llm_net.llm.endpoint import Endpoint, endpoint_key
from llm_net.llm.fallback import Fallback
from llm_net.llm.flows import Pause
from llm_net.llm.limits import Limited, Limits
from llm_net.llm.model import Chunk, Completion, Request, Usage
from llm_net.llm.scripted import FunctionModel
from tests.llm.stepping import DONE, Clock, Script, ask, failure, walk
from tests.waiting import DEADLINE_S, within_deadline


def limited(model: Any, clock: Clock, **limits: Any) -> Limited:
    named = Limits(**limits)
    endpoint = Endpoint(named, name="openai/m", clock=clock)
    return Limited(model, named, endpoint, luck=random.Random(4))


class Crowd:
    """A model that answers when as many are asking as it waits for, and counts them."""

    name = "crowd"

    def __init__(self, wait_for: int) -> None:
        self.wait_for = wait_for
        self.inside = self.most = self.served = 0
        self.lock = threading.Lock()
        self.full = asyncio.Event()
        self.step(0)

    def step(self, by: int) -> None:
        with self.lock:
            self.inside += by
            self.most = max(self.most, self.inside)
            self.served += by > 0
            if self.most >= self.wait_for:
                self.full.set()

    def complete(self, request: Request) -> Completion:
        self.step(1)
        self.step(-1)
        return DONE

    async def acomplete(self, request: Request) -> Completion:
        self.step(1)
        await self.full.wait()
        self.step(-1)
        return DONE


# The cap.


@pytest.mark.parametrize("cap", [1, 7, 100, 1000])
def test_a_thousand_at_once_keep_to_the_cap_and_use_all_of_it(cap: int) -> None:
    crowd = Crowd(wait_for=cap)
    model = Limited(crowd, Limits(max_concurrency=cap))

    async def everyone() -> None:
        await asyncio.gather(*(model.acomplete(ask(str(n))) for n in range(1000)))

    within_deadline(lambda: asyncio.run(everyone()))
    assert (crowd.most, crowd.served, crowd.inside) == (cap, 1000, 0)


def test_the_cap_counts_callers_on_all_threads_and_loops() -> None:
    crowd = Crowd(wait_for=0)
    model = Limited(crowd, Limits(max_concurrency=3))

    async def everyone() -> None:
        await asyncio.gather(*(model.acomplete(ask()) for _ in range(50)))

    def one_by_one() -> None:
        for _ in range(50):
            model.complete(ask())

    threads = [threading.Thread(target=asyncio.run, args=(everyone(),)) for _ in range(3)]
    threads += [threading.Thread(target=one_by_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        within_deadline(thread.join)
    assert crowd.most <= 3
    assert (crowd.served, crowd.inside) == (300, 0)


@pytest.mark.parametrize(
    "wrong", [failure(passing=False), ValueError("a bug"), KeyboardInterrupt()]
)
def test_a_failed_call_gives_its_place_back(wrong: BaseException) -> None:
    model = Limited(Script([wrong, DONE]), Limits(max_concurrency=1))
    with pytest.raises(type(wrong)):
        model.complete(ask())
    assert model.complete(ask(timeout=0.001)) == DONE


def test_who_is_cancelled_in_line_or_in_the_call_leaves_no_hole() -> None:
    gate = asyncio.Event()

    class Slow(Script):
        async def acomplete(self, request: Request) -> Completion:
            await gate.wait()
            return DONE

    model = Limited(Slow(), Limits(max_concurrency=1))

    async def story() -> None:
        tasks = [asyncio.ensure_future(model.acomplete(ask())) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(r, Completion) for r in results] == [False, False, True, True, True]

    within_deadline(lambda: asyncio.run(story()))


def test_who_stands_in_line_past_his_timeout_is_told_so() -> None:
    outer = Limited(Script(), Limits(max_concurrency=1))
    inner: list[ModelCallError] = []

    def ask_again() -> Completion:
        with pytest.raises(ModelCallError, match=r"was not asked.*max_concurrency=") as caught:
            outer.complete(ask(timeout=0.001))
        inner.append(caught.value)
        return DONE

    outer.model = Script([ask_again])
    outer.complete(ask())
    assert inner[0].passing


def test_handles_on_one_endpoint_share_its_places() -> None:
    key = endpoint_key("openai", "http://there/v1", "secret")
    limits = Limits(max_concurrency=1)
    first = Endpoint.shared(key, limits, name="openai/a")
    assert Endpoint.shared(key, Limits(max_concurrency=1, retries=3), name="openai/b") is first
    assert Endpoint.shared(key, Limits(max_concurrency=2), name="openai/a") is not first
    other = endpoint_key("openai", "http://there/v1", "another secret")
    assert Endpoint.shared(other, limits, name="openai/a") is not first
    assert "secret" not in key + other


def test_an_endpoint_is_forgotten_with_its_last_handle() -> None:
    endpoint = Endpoint.shared("gone", Limits(max_concurrency=1), name="openai/m")
    there = weakref.ref(endpoint)
    del endpoint
    gc.collect()
    assert there() is None


FORK = """
import os, warnings
warnings.simplefilter("ignore")
from llm_net.llm.endpoint import Endpoint, Limits
endpoint = Endpoint.shared("there", Limits(max_concurrency=1), name="there")
assert endpoint.gate.enter(0)
child = os.fork()
if child == 0:
    os._exit(0 if endpoint.gate.enter(0) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert not endpoint.gate.enter(0)
"""


def test_a_forked_child_does_not_wait_for_its_parent_s_calls() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=DEADLINE_S)


class Asker(GenAgent):
    llm: ModuleLLM

    async def step(self, message: Message) -> str:
        return (await self.llm.agenerate(message.body)).text


class BlockingAsker(GenAgent):
    llm: ModuleLLM

    def step(self, message: Message) -> str:
        return self.llm.generate(message.body).text


@pytest.mark.parametrize("kind", [Asker, BlockingAsker])
def test_in_a_deterministic_run_the_line_moves_on_and_always_in_the_same_order(
    kind: type[Asker | BlockingAsker],
) -> None:
    def run() -> tuple[str | None, list[str]]:
        places: list[str] = []

        def answer(request: Request) -> str:
            places.append(request.place)
            return "done"

        llm = ModuleLLM(Limited(FunctionModel(answer), Limits(max_concurrency=1, retries=1)))
        agents = [kind(name=f"a{n}", llm=llm) for n in range(4)]
        net = GenNetwork(name="net", agents=agents, entry=[a.name for a in agents])
        result = within_deadline(lambda: net.run(Message("go"), runtime=Deterministic(3)))
        assert [out.body for out in result.outputs] == ["done"] * 4
        return result.trace, places

    first = run()
    assert first == run()
    assert len(set(first[1])) == 4


# Rates.


def test_calls_wait_for_their_minute() -> None:
    clock = Clock()
    model = limited(Script(), clock, requests_per_minute=2)
    starts: list[float] = []
    for _ in range(5):
        walk(model.flow(ask()), clock)
        starts.append(clock.now)
    assert starts == [0, 0, 60, 60, 120]


def test_tokens_are_guessed_before_and_known_after() -> None:
    clock = Clock()
    used = Completion(text="x", usage=Usage(prompt_tokens=40, completion_tokens=50))
    model = limited(Script([used]), clock, tokens_per_minute=100)
    walk(model.flow(ask()), clock)  # guessed as next to nothing, took 90
    walk(model.flow(ask("hi " * 40)), clock)  # is 30 by the guess
    assert clock.now == 60


def test_who_cannot_wait_for_his_minute_is_told_so_at_once() -> None:
    clock = Clock()
    model = limited(Script(), clock, requests_per_minute=1)
    walk(model.flow(ask()), clock)
    with pytest.raises(ModelCallError, match="in the minute before"):
        walk(model.flow(ask(timeout=59)), clock)
    assert clock.now == 0
    walk(model.flow(ask(timeout=61)), clock)
    assert clock.now == 60


def test_who_gives_up_waiting_for_his_minute_takes_nothing_of_it() -> None:
    clock = Clock()
    used = Completion(text="x", usage=Usage(prompt_tokens=10, completion_tokens=80))
    model = limited(Script([used]), clock, tokens_per_minute=100)
    walk(model.flow(ask(max_tokens=90)), clock)
    patient = model.flow(ask(max_tokens=90))
    assert isinstance(next(patient), Pause)
    patient.close()
    clock.now = 60
    walk(model.flow(ask(max_tokens=90)), clock)
    assert clock.now == 60


# Retries.


@given(st.integers(0, 5), st.integers(0, 8))
def test_passing_failures_are_retried_as_often_as_allowed(retries: int, failures: int) -> None:
    script = Script([*[failure()] * failures, DONE])
    model = limited(script, Clock(), retries=retries)
    if failures <= retries:
        assert walk(model.flow(ask()), Clock())[0] == DONE
        assert len(script.asked) == failures + 1
    else:
        with pytest.raises(ModelCallError, match="fire brigade"):
            walk(model.flow(ask()), Clock())
        assert len(script.asked) == retries + 1


@pytest.mark.parametrize(
    "wrong",
    [
        failure(passing=False),
        AnswerError("No."),
        UsageError("No."),
        ModelSetupError("No."),
        OSError(),
    ],
)
def test_what_retrying_cannot_mend_is_not_retried(wrong: BaseException) -> None:
    script = Script([wrong])
    with pytest.raises(type(wrong)):
        walk(limited(script, Clock(), retries=5).flow(ask()), Clock())
    assert len(script.asked) == 1


def test_pauses_grow_and_are_random_up_to_the_longest() -> None:
    seen: list[list[float]] = []
    for seed in range(200):
        limits = Limits(retries=6, max_wait_s=4)
        model = Limited(Script([*[failure()] * 6, DONE]), limits, luck=random.Random(seed))
        seen.append(walk(model.flow(ask()), Clock())[1])
    for attempt, longest in enumerate([0.5, 1, 2, 4, 4, 4]):
        pauses = [each[attempt] for each in seen]
        assert max(pauses) <= longest
        assert max(pauses) > 0.9 * longest  # all of it is used: full jitter
        assert min(pauses) < 0.1 * longest


def test_the_same_seed_pauses_the_same() -> None:
    pauses = [
        walk(limited(Script([failure(), failure(), DONE]), Clock(), retries=2).flow(ask()), Clock())
        for _ in range(2)
    ]
    assert pauses[0] == pauses[1]


@given(st.floats(0, 60))
def test_retry_after_is_waited_for_and_little_longer(seconds: float) -> None:
    script = Script([failure(status=429, retry_after=seconds), DONE])
    pauses = walk(limited(script, Clock(), retries=1).flow(ask()), Clock())[1]
    assert seconds <= pauses[0] <= 1.1 * seconds


def test_who_is_told_to_wait_too_long_fails_at_once() -> None:
    script = Script([failure(status=429, retry_after=86_400), DONE])
    clock = Clock()
    with pytest.raises(ModelCallError, match=r"max_wait_s=60.*fire brigade") as caught:
        walk(limited(script, clock, retries=3).flow(ask()), clock)
    assert (caught.value.status, caught.value.retry_after) == (429, 86_400)
    assert (clock.now, len(script.asked)) == (0, 1)


def test_a_retry_that_the_timeout_would_cut_off_is_not_made() -> None:
    script = Script([failure(retry_after=10), DONE])
    clock = Clock()
    with pytest.raises(ModelCallError, match=r"5 s of its timeout are left"):
        walk(limited(script, clock, retries=3).flow(ask(timeout=5)), clock)
    assert clock.now == 0


def test_the_timeout_covers_all_attempts_and_the_time_between_them() -> None:
    clock = Clock()

    def slow_failure() -> Completion:
        clock.now += 4
        raise failure(retry_after=2)

    script = Script([slow_failure, DONE])
    walk(limited(script, clock, retries=1).flow(ask(timeout=10)), clock)
    first, second = (request.timeout for request in script.asked)
    assert first == 10
    assert second is not None
    assert 3.7 < second <= 4


# The circuit.


def test_after_failures_in_a_row_nobody_is_asked_until_the_cool_down_is_over() -> None:
    clock = Clock()
    script = Script([*[failure()] * 3, DONE])
    breaker = Breaker(failures=3, cool_down_s=30)
    model = limited(script, clock, retries=5, breaker=breaker)
    with pytest.raises(CircuitOpen):  # and the retries end: an open circuit is left alone
        walk(model.flow(ask()), clock)
    with pytest.raises(CircuitOpen):
        walk(model.flow(ask()), clock)
    assert len(script.asked) == 3
    clock.now += 30
    assert walk(model.flow(ask()), clock)[0] == DONE
    assert walk(model.flow(ask()), clock)[0] == DONE


def test_a_refusal_is_a_sign_of_life() -> None:
    wrong = [failure(), failure(passing=False)] * 5
    model = limited(Script(wrong), Clock(), breaker=Breaker(failures=2))
    for each in wrong:
        with pytest.raises(ModelCallError) as caught:
            walk(model.flow(ask()), Clock())
        assert caught.value is each


# Streams.


class Stream(Script):
    """A model that gives pieces, and fails after so many of them, as often as it is told."""

    def __init__(self, pieces: int, failures: int = 1) -> None:
        super().__init__()
        self.pieces = pieces
        self.failures = failures
        self.closed = 0

    def stream(self, request: Request) -> Iterator[Chunk]:
        self.asked.append(request)
        try:
            for _ in range(self.pieces):
                yield Chunk("la")
            if len(self.asked) <= self.failures:
                raise failure()
            yield Chunk("!", Completion(text="la" * self.pieces + "!"))
        finally:
            self.closed += 1

    async def astream(self, request: Request) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk


def follow(model: Limited) -> list[Chunk]:
    return list(model.stream(ask()))


def afollow(model: Limited) -> list[Chunk]:
    async def chunks() -> list[Chunk]:
        return [chunk async for chunk in model.astream(ask())]

    return asyncio.run(chunks())


ways = pytest.mark.parametrize("way", [follow, afollow])


@ways
def test_a_stream_begins_anew_as_long_as_nothing_was_handed_out(
    way: Callable[[Limited], list[Chunk]],
) -> None:
    source = Stream(0)
    chunks = way(Limited(source, Limits(retries=1, max_concurrency=1), luck=Still()))
    assert [str(chunk) for chunk in chunks] == ["!"]
    assert len(source.asked) == 2


@ways
def test_a_stream_of_which_pieces_were_handed_out_does_not_begin_anew(
    way: Callable[[Limited], list[Chunk]],
) -> None:
    source = Stream(2)
    model = Limited(source, Limits(retries=9, max_concurrency=1), luck=Still())
    with pytest.raises(ModelCallError, match="fire brigade"):
        way(model)
    assert len(source.asked) == 1
    assert [str(chunk) for chunk in way(model)] == ["la", "la", "!"]  # the place was given back


@ways
def test_a_stream_without_an_end_is_a_failure(way: Callable[[Limited], list[Chunk]]) -> None:
    class Endless(Stream):
        def stream(self, request: Request) -> Iterator[Chunk]:
            yield Chunk("la")

    with pytest.raises(ModelCallError, match="broke off after 2 characters"):
        way(Limited(Endless(1), Limits(max_concurrency=1)))


def test_who_leaves_a_stream_gives_the_place_back_and_closes_the_source() -> None:
    source = Stream(3, failures=0)
    model = Limited(source, Limits(max_concurrency=1))
    chunks = model.stream(ask())
    next(chunks)
    with pytest.raises(ModelCallError, match="was not asked"):
        model.complete(ask(timeout=0.001))  # the place is kept while pieces come
    chunks.close()  # type: ignore[attr-defined]
    assert source.closed == 1
    assert follow(model)[-1].completion is not None


def test_a_model_that_cannot_stream_gives_one_piece() -> None:
    chunks = follow(Limited(Script(), Limits(max_concurrency=1)))
    assert chunks == [Chunk("done", DONE)]


class Still(random.Random):
    """Luck that never makes anybody wait."""

    def uniform(self, a: float, b: float) -> float:
        return a


# The next model.


@pytest.mark.parametrize("wrong", [failure(), failure(passing=False), ModelSetupError("No key.")])
def test_where_one_fails_for_good_the_next_is_asked(wrong: ModelError) -> None:
    first, second, third = Script([wrong]), Script(), Script()
    model = Fallback([first, second, third])
    assert model.complete(ask()) == asyncio.run(model.acomplete(ask())) == DONE
    assert [len(s.asked) for s in (first, second, third)] == [2, 2, 0]


@pytest.mark.parametrize(
    "wrong", [UsageError("No."), BudgetExceeded("No.", limit="usd"), AnswerError("No.")]
)
def test_what_another_model_cannot_mend_is_raised_at_once(wrong: Exception) -> None:
    second = Script()
    with pytest.raises(type(wrong)):
        Fallback([Script([wrong]), second]).complete(ask())
    assert second.asked == []


def test_if_all_fail_the_last_failure_is_raised() -> None:
    last = failure(status=418)
    with pytest.raises(ModelCallError) as caught:
        Fallback([Script([failure()]), Script([last])]).complete(ask())
    assert caught.value is last
    with pytest.raises(UsageError, match="nobody to ask"):
        Fallback([])


def test_the_timeout_covers_all_models() -> None:
    clock = Clock()

    def slow() -> Completion:
        clock.now += 4
        raise failure()

    scripts = [Script([slow]), Script([slow]), Script([slow]), Script()]
    with pytest.raises(ModelCallError):
        Fallback(scripts, clock=clock).complete(ask(timeout=10))
    assert [[r.timeout for r in s.asked] for s in scripts] == [[10], [6], [2], []]


def test_a_stream_of_which_pieces_were_handed_out_is_not_given_to_another_model() -> None:
    with pytest.raises(ModelCallError):
        list(Fallback([Stream(1), Stream(1, failures=0)]).stream(ask()))
    chunks = list(Fallback([Stream(0), Stream(1, failures=0)]).stream(ask()))
    assert [str(chunk) for chunk in chunks] == ["la", "!"]


# What can never work.


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_concurrency", [0, -1, 1.5, True, math.nan, "3"]),
        ("requests_per_minute", [0, -1, 1.5, math.inf]),
        ("tokens_per_minute", [0, -1, math.nan]),
        ("retries", [-1, 1.5, None, True]),
        ("max_wait_s", [0, -1, math.nan, math.inf, None]),
        ("breaker", [5, "on"]),
    ],
)
def test_limits_that_can_never_be_kept_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=rf"Limits\({name}="):
            Limits(**{name: value})
