"""What an event-loop actor promises besides what Pykka's own suite asks (see `pykka_suite`)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka.messages import _ActorStop

from llm_net import UsageError
from llm_net.event_loop_actor import EventLoopActor, EventLoopActorRef
from llm_net.futures import EventLoopFuture
from llm_net.registry import register, unregister
from tests.waiting import DEADLINE_S, within_deadline

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _all_stopped(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test leaves an actor or a thread; those that stop, stop with their threads."""
    caplog.set_level(logging.CRITICAL, logger="pykka")
    before = set(threading.enumerate())
    yield
    within_deadline(pykka.ActorRegistry.stop_all)
    # Of an actor that failed, nobody has waited for the end.
    deadline = time.monotonic() + DEADLINE_S
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        for thread in left:
            with suppress(RuntimeError):  # not quite started yet
                thread.join(DEADLINE_S)


def happens(event: threading.Event) -> bool:
    return event.wait(DEADLINE_S)


class Gate:
    """Holds whoever comes, until it is opened; says when somebody has come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def pass_(self) -> None:
        self.reached.set()
        assert happens(self.opened)

    async def apass(self) -> None:
        await asyncio.to_thread(self.pass_)


class Log(EventLoopActor):
    """Writes down what it does; what it is sent and can be called, it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.log.append(message)
        return message() if callable(message) else message


class InLoop(Log):
    blocking = False


class Async(Log):
    async def on_receive(self, message: Any) -> Any:
        self.log.append(message)
        value = message() if callable(message) else message
        return await value if asyncio.iscoroutine(value) else value


KINDS = pytest.mark.parametrize("kind", [Log, InLoop, Async])


def fail() -> None:
    raise ZeroDivisionError


def actor_of(ref: pykka.ActorRef[Any]) -> Any:
    """The actor itself, which its reference holds only as long as it lives."""
    actor = ref._actor_weakref()
    assert actor is not None
    return actor


def wait_for_end(ref: pykka.ActorRef[Any]) -> None:
    """Have the actor end, last hook and all."""
    stop: EventLoopFuture[None] = EventLoopFuture()
    # Not by `stop()`, which does not wait for the hook of an actor that is dead already.
    ref.actor_inbox.put(pykka._envelope.Envelope(_ActorStop(), reply_to=stop))
    stop.get(timeout=DEADLINE_S)


def ended(ref: pykka.ActorRef[Any]) -> Any:
    """The actor, once it has ended."""
    actor = actor_of(ref)
    wait_for_end(ref)
    return actor


# -- one at a time, in order


@KINDS
def test_an_actor_handles_one_message_at_a_time_and_each_senders_in_order(kind: type[Log]) -> None:
    ref = kind.start()

    def send(sender: int) -> None:
        for number in range(300):
            ref.tell((sender, number))

    senders = [threading.Thread(target=send, args=(each,)) for each in range(4)]
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    log = ended(ref).log
    assert len(log) == 1200
    for sender in range(4):
        assert [n for s, n in log if s == sender] == list(range(300))


def test_a_sync_method_keeps_the_next_message_out_until_it_returns() -> None:
    gate, ref = Gate(), Log.start()
    ref.tell(gate.pass_)
    after = ref.ask("after", block=False)
    assert happens(gate.reached)
    with pytest.raises(pykka.Timeout):
        after.get(timeout=0)
    gate.opened.set()
    assert after.get(timeout=DEADLINE_S) == "after"


def test_an_async_method_that_waits_keeps_the_next_message_out() -> None:
    gate, ref = Gate(), Async.start()
    ref.tell(gate.apass)
    after = ref.ask("after", block=False)
    other = Async.start()
    assert happens(gate.reached)
    assert other.ask("the loop goes on", timeout=DEADLINE_S) == "the loop goes on"
    with pytest.raises(pykka.Timeout):
        after.get(timeout=0)
    gate.opened.set()
    assert after.get(timeout=DEADLINE_S) == "after"


def test_sync_and_async_methods_of_one_actor_keep_their_order() -> None:
    class Both(EventLoopActor):
        def __init__(self) -> None:
            super().__init__()
            self.log: list[int] = []

        def sync(self, number: int) -> None:
            self.log.append(number)

        async def eventually(self, number: int) -> None:
            await asyncio.sleep(0)
            self.log.append(number)

        def hidden(self, number: int) -> Any:
            """A sync method that gives something to await, as decorators do."""
            return self.eventually(number)

    proxy = Both.start().proxy()
    for number in range(0, 90, 3):
        proxy.sync(number)
        proxy.eventually(number + 1)
        proxy.hidden(number + 2)
    assert proxy.log.get(timeout=DEADLINE_S) == list(range(90))


def test_a_message_put_before_the_start_is_handled_after_on_start() -> None:
    class Eager(Log):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("told in __init__")

        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.log.append("on_start")

    ref = Eager.start()
    assert ended(ref).log == ["on_start", "told in __init__"]


def test_a_message_put_before_the_start_is_handled_though_there_is_no_hook() -> None:
    class Eager(Log):
        def __init__(self) -> None:
            super().__init__()
            self.told = self.actor_ref.ask("asked in __init__", block=False)

    assert actor_of(Eager.start()).told.get(timeout=DEADLINE_S) == "asked in __init__"


def test_a_message_put_while_the_actor_turns_idle_is_not_overlooked() -> None:
    class Mail(deque[Any]):
        """Somebody puts a message just after somebody else has looked and found none."""

        late: Any = None

        def __bool__(self) -> bool:
            there = len(self) > 0
            if not there and self.late is not None:
                late, self.late = self.late, None
                inbox.put(late)
            return there

    ref = InLoop.start()
    inbox: Any = ref.actor_inbox
    inbox._mail = mail = Mail()
    answer: EventLoopFuture[str] = EventLoopFuture()
    mail.late = pykka._envelope.Envelope("late", reply_to=answer)
    assert ref.ask("x", timeout=DEADLINE_S) == "x"
    assert answer.get(timeout=DEADLINE_S) == "late"


# -- async methods and hooks


def test_async_methods_answer_through_a_proxy_and_run_on_the_loop() -> None:
    class Waiter(EventLoopActor):
        async def double(self, number: int) -> int:
            await asyncio.sleep(0)
            return number * 2

        async def place(self) -> tuple[str, bool]:
            return threading.current_thread().name, asyncio.current_task() is not None

        def thread(self) -> str:
            return threading.current_thread().name

    proxy = Waiter.start().proxy()
    assert proxy.double(21).get(timeout=DEADLINE_S) == 42
    assert proxy.place().get(timeout=DEADLINE_S) == ("llm_net-engine", True)
    assert proxy.thread().get(timeout=DEADLINE_S).startswith("Waiter-")


def test_async_actors_await_each_other() -> None:
    class Asking(EventLoopActor):
        async def on_receive(self, message: pykka.ActorRef[Any]) -> Any:
            return await message.ask("x", block=False), await message.proxy().log

    other = Log.start()
    assert Asking.start().ask(other, timeout=DEADLINE_S) == ("x", ["x"])


@pytest.mark.parametrize("blocking", [True, False])
def test_sync_hooks_run_in_order(blocking: bool) -> None:  # noqa: FBT001
    class Hooked(Log):
        def on_start(self) -> None:
            self.log.append("on_start")

        def on_stop(self) -> None:
            self.log.append("on_stop")

        def on_failure(self, *args: Any) -> None:
            self.log.append(args[0])

    Hooked.blocking = blocking
    ref, failing = Hooked.start(), Hooked.start()
    failed = actor_of(failing)
    ref.tell("x")
    failing.tell(fail)
    wait_for_end(failing)
    assert ended(ref).log == ["on_start", "x", "on_stop"]
    assert failed.log == ["on_start", fail, ZeroDivisionError]


def test_async_hooks_run_in_order_and_are_awaited() -> None:
    class Hooked(Log):
        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.log.append("on_start")

        async def on_stop(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.log.append(("on_stop", self.actor_ref.is_alive()))

        async def on_failure(self, *args: Any) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.log.append(args[0])

    ref, failing = Hooked.start(), Hooked.start()
    failed = actor_of(failing)
    ref.tell("x")
    failing.tell(fail)
    wait_for_end(failing)
    assert ended(ref).log == ["on_start", "x", ("on_stop", False)]
    assert failed.log == ["on_start", fail, ZeroDivisionError]


# -- failures


@KINDS
def test_what_an_ask_raises_goes_to_the_asker_and_the_actor_lives(kind: type[Log]) -> None:
    ref = kind.start()
    with pytest.raises(ZeroDivisionError):
        ref.ask(fail, timeout=DEADLINE_S)
    assert ref.ask("still there", timeout=DEADLINE_S) == "still there"


@KINDS
def test_what_a_tell_raises_stops_the_actor_and_what_waits_dies(kind: type[Log]) -> None:
    gate, ref = Gate(), kind.start()
    ref.tell(gate.apass if kind is Async else gate.reached.set)
    assert happens(gate.reached)
    ref.tell(fail)
    waiting = ref.ask("too late", block=False)
    gate.opened.set()
    if kind is Async:
        with pytest.raises(pykka.ActorDeadError, match="stopped before handling the message"):
            waiting.get(timeout=DEADLINE_S)
    assert happens(ref.actor_stopped)
    assert ref not in pykka.ActorRegistry.get_all()
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("dead", timeout=DEADLINE_S)


@KINDS
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, BaseException])
def test_a_base_exception_stops_its_own_actor_is_logged_and_goes_to_the_asker(
    kind: type[Log], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        raise error

    caplog.set_level(logging.ERROR, logger="pykka")
    ref, other = kind.start(), kind.start()
    with pytest.raises(error):
        ref.ask(leave, timeout=DEADLINE_S)
    assert not ref.is_alive()
    assert pykka.ActorRegistry.get_all() == [other]
    assert other.ask("x", timeout=DEADLINE_S) == "x"
    assert [record.getMessage() for record in caplog.records] == [
        f"{error()!r} in {ref} stops that actor, and no other:"
    ]


def test_a_base_exception_stops_nobody_whom_it_reaches_through_an_ask() -> None:
    def leave() -> None:
        raise SystemExit

    inner, outer = Log.start(), Log.start()
    with pytest.raises(SystemExit):
        outer.ask(lambda: inner.ask(leave), timeout=DEADLINE_S)
    assert (inner.is_alive(), outer.is_alive()) == (False, True)


def test_a_cancelled_wait_is_a_failure_like_others() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    ref = Async.start()
    with pytest.raises(asyncio.CancelledError):
        ref.ask(cancelled, timeout=DEADLINE_S)
    assert ref.ask("still there", timeout=DEADLINE_S) == "still there"


def test_a_constructor_that_forgets_its_base_is_told_so() -> None:
    class Forgetful(EventLoopActor):
        def __init__(self) -> None:
            pass

    with pytest.raises(UsageError, match=r"has not called super\(\).__init__\(\)"):
        Forgetful.start()
    assert pykka.ActorRegistry.get_all() == []


def test_an_actor_that_cannot_be_started_is_not_registered() -> None:
    class Stillborn(EventLoopActor):
        def _start_actor_loop(self) -> None:
            raise OSError

    with pytest.raises(OSError, match=r"^$"):
        Stillborn.start()
    assert pykka.ActorRegistry.get_all() == []


# -- the end


@KINDS
def test_an_ask_that_races_with_the_stop_gets_an_answer(kind: type[Log]) -> None:
    for _ in range(20):
        ref = kind.start()
        ready = threading.Barrier(5)
        answers: list[Any] = []

        def ask(
            ref: pykka.ActorRef[Any] = ref,
            ready: threading.Barrier = ready,
            answers: list[Any] = answers,
        ) -> None:
            ready.wait()
            for number in range(30):
                try:
                    answers.append(ref.ask(number, timeout=DEADLINE_S))
                except pykka.ActorDeadError:
                    answers.append(None)

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for each in askers:
            each.start()
        ready.wait()
        within_deadline(ref.stop)
        for each in askers:
            each.join()
        assert len(answers) == 120


def test_what_is_put_into_the_inbox_of_a_stopped_actor_is_answered_at_once() -> None:
    ref = Log.start()
    inbox = ref.actor_inbox
    ref.stop()
    late: list[EventLoopFuture[Any]] = [EventLoopFuture(), EventLoopFuture()]
    # What an asker does that looked whether the actor lives just before it stopped.
    inbox.put(pykka._envelope.Envelope("late", reply_to=late[0]))
    inbox.put(pykka._envelope.Envelope(_ActorStop(), reply_to=late[1]))
    with pytest.raises(pykka.ActorDeadError, match="stopped before handling the message"):
        late[0].get(timeout=0)
    assert late[1].get(timeout=0) is None


def test_a_stop_returns_when_on_stop_has_and_so_does_a_second_one() -> None:
    gate = Gate()

    class Slow(EventLoopActor):
        done = False

        def on_stop(self) -> None:
            gate.pass_()
            type(self).done = True

    ref = Slow.start()
    first = ref.stop(block=False)
    assert happens(gate.reached)
    asked: EventLoopFuture[None] = EventLoopFuture()
    ref.actor_inbox.put(pykka._envelope.Envelope(_ActorStop(), reply_to=asked))
    assert not ref.is_alive()
    with pytest.raises(pykka.Timeout):
        asked.get(timeout=0)
    gate.opened.set()
    assert asked.get(timeout=DEADLINE_S) is None
    assert Slow.done
    assert first.get(timeout=DEADLINE_S) is True
    assert ref.stop() is False


def test_the_registry_forgets_an_actor_before_actor_stopped_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[bool, bool]] = []

    class Refs(list[Any]):
        def __delitem__(self, place: Any) -> None:
            seen.append((self[place].is_alive(), self[place].actor_stopped.is_set()))
            super().__delitem__(place)

    monkeypatch.setattr(pykka.ActorRegistry, "_actor_refs", Refs())
    Log.start().stop()
    failing = InLoop.start()
    failing.tell(fail)
    wait_for_end(failing)
    assert seen == [(True, False)] * 2


def test_with_the_last_actor_all_threads_end() -> None:
    before = set(threading.enumerate())
    refs = [kind.start() for kind in (Log, InLoop, Async) for _ in range(10)]
    for ref in refs:
        ref.ask("x")
    assert set(threading.enumerate()) != before
    pykka.ActorRegistry.stop_all()
    assert set(threading.enumerate()) == before


def test_an_actor_that_stopped_can_be_forgotten_while_its_reference_is_kept() -> None:
    ref = Log.start()
    actor = weakref.ref(ended(ref))
    gc.collect()
    assert actor() is None
    assert not ref.is_alive()
    assert str(ref).startswith("Log (urn:uuid:")


def test_actors_can_be_started_again_and_again_from_many_threads() -> None:
    """The engine closes with the last actor and opens with the next, whoever comes first."""

    def live(kind: type[Log]) -> None:
        for number in range(100):
            ref = kind.start()
            assert ref.ask(number, timeout=DEADLINE_S) == number
            assert ref.stop(timeout=DEADLINE_S) is True

    lives = [threading.Thread(target=live, args=(kind,)) for kind in (Log, InLoop, Async)]
    for each in lives:
        each.start()
    for each in lives:
        each.join(DEADLINE_S)
    assert not any(each.is_alive() for each in lives)
    assert pykka.ActorRegistry.get_all() == []


# -- what an actor has to itself


PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")


@pytest.mark.parametrize("blocking", [True, False])
def test_context_variables_are_the_actors_own_from_message_to_message(
    blocking: bool,  # noqa: FBT001
) -> None:
    class Placed(EventLoopActor):
        def on_start(self) -> None:
            PLACE.set("on_start")

        def put(self, place: str) -> str:
            before = PLACE.get()
            PLACE.set(place)
            return before

        async def aput(self, place: str) -> str:
            await asyncio.sleep(0)
            before = PLACE.get()
            PLACE.set(place)
            return before

    Placed.blocking = blocking
    first, second = Placed.start().proxy(), Placed.start().proxy()
    asked = [first.put("a"), first.aput("b"), first.put("c"), second.aput("d"), second.put("e")]
    assert pykka.get_all(asked, timeout=DEADLINE_S) == ["on_start", "a", "b", "on_start", "d"]
    assert PLACE.get() == "nowhere"


def test_the_only_actor_of_a_class_keeps_its_thread() -> None:
    """So that what may be used in one thread only, as connections of sqlite3, can be used here."""

    class Single(EventLoopActor):
        def on_start(self) -> None:
            self.seen = {threading.get_ident()}

        def on_receive(self, message: Any) -> int:
            self.seen.add(threading.get_ident())
            return len(self.seen)

    ref = Single.start()
    assert [ref.ask(None, timeout=DEADLINE_S) for _ in range(50)] == [1] * 50


# -- many


def test_idle_actors_cost_no_thread_and_make_neither_uuid_nor_event() -> None:
    first = Log.start()
    threads = threading.active_count()
    refs = [Log.start() for _ in range(1000)]
    assert threading.active_count() == threads
    assert first.ask("x") == "x"
    assert all({"actor_urn", "actor_stopped"}.isdisjoint(vars(ref)) for ref in refs)
    assert refs[0].actor_urn == refs[0].actor_urn != refs[1].actor_urn


def test_a_thousand_actors_may_each_wait_for_the_next() -> None:
    class Link(EventLoopActor):
        def __init__(self, after: pykka.ActorRef[Any] | None) -> None:
            super().__init__()
            self.after = after

        def on_receive(self, message: int) -> int:
            if self.after is not None:
                message = self.after.ask(message + 1, block=True)
            return message

    chain: Any = None
    for _ in range(1000):
        chain = Link.start(chain)
    assert chain.ask(1, timeout=6 * DEADLINE_S) == 1000


def test_one_actor_may_wait_for_a_thousand() -> None:
    refs = [Log.start() for _ in range(1000)]

    class Fan(EventLoopActor):
        def on_receive(self, message: Any) -> Any:
            return pykka.get_all([ref.ask(message, block=False) for ref in refs])

    assert Fan.start().ask("x", timeout=6 * DEADLINE_S) == ["x"] * 1000


class CountingList(list[Any]):
    """Counts how many of its items are looked at."""

    looked = 0

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice):
            self.looked += 1
        return super().__getitem__(place)

    def __contains__(self, item: object) -> bool:
        self.looked += len(self)
        return super().__contains__(item)

    def remove(self, item: Any) -> None:
        self.looked += len(self)
        super().remove(item)


@pytest.mark.parametrize("stop", ["stop_all", "in order of start"])
def test_stopping_n_actors_does_not_look_n_times_at_n(
    stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = CountingList()
    monkeypatch.setattr(pykka.ActorRegistry, "_actor_refs", refs)
    for _ in range(1000):
        Log.start()
    if stop == "stop_all":
        within_deadline(pykka.ActorRegistry.stop_all)
    else:
        for ref in list(refs):
            ref.stop()
    assert refs == []
    assert refs.looked <= 1000 * 12  # halving 1000 takes ten looks


@given(
    st.lists(st.tuples(st.sampled_from(["ours", "pykka", "off", "pykka off"]), st.integers(0, 5)))
)
def test_the_registry_is_the_list_that_pykka_alone_would_keep(
    steps: list[tuple[str, int]],
) -> None:
    words: dict[str, Callable[[pykka.ActorRef[Any]], None]] = {
        "ours": register,
        "pykka": pykka.ActorRegistry.register,
        "off": unregister,
        "pykka off": pykka.ActorRegistry.unregister,
    }
    refs = [Log().actor_ref for _ in range(6)]
    expected: list[pykka.ActorRef[Any]] = []
    try:
        for word, number in steps:
            words[word](refs[number])
            if "off" not in word:
                expected.append(refs[number])
            elif refs[number] in expected:
                # Of one that stands there twice, which Pykka never does, either may go.
                kept = pykka.ActorRegistry.get_all()
                expected.remove(refs[number])
                assert sorted(map(id, kept)) == sorted(map(id, expected))
                expected = kept
            assert pykka.ActorRegistry.get_all() == expected
    finally:
        for ref in expected:
            unregister(ref)


# -- beside others


def test_event_loop_actors_and_threading_actors_ask_each_other() -> None:
    class Threaded(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message()

    threaded, ours = Threaded.start(), Log.start()
    assert threaded.ask(lambda: ours.ask("x"), timeout=DEADLINE_S) == "x"
    assert ours.ask(lambda: threaded.ask(lambda: "y"), timeout=DEADLINE_S) == "y"
    assert ours.ask("z", block=False).join(threaded.ask(lambda: "y", block=False)).get() == [
        "z",
        "y",
    ]
    threaded.stop()


@KINDS
def test_await_from_another_loop_does_not_block_that_loop(kind: type[Log]) -> None:
    gate, ref = Gate(), kind.start()
    hold = gate.apass if kind is not Log else gate.pass_

    async def release() -> None:
        assert await asyncio.to_thread(gate.reached.wait, DEADLINE_S)
        gate.opened.set()

    async def main() -> list[Any]:
        first = ref.ask(hold, block=False)
        return await asyncio.gather(
            _value(first),
            _value(first.map(str)),
            _value(ref.ask([1, 2, 3], block=False).filter(lambda each: each > 1)),
            _value(ref.ask([1, 2, 3], block=False).reduce(lambda a, b: a + b)),
            _value(ref.ask("x", block=False).join(ref.ask("y", block=False))),
            _value(ref.stop(block=False)),
            release(),
        )

    answers = within_deadline(lambda: asyncio.run(main()))
    assert answers == [None, "None", [2, 3], 6, ["x", "y"], True, None]


async def _value(future: Any) -> Any:
    return await future


def test_a_get_hook_of_unknown_kind_is_awaited_without_blocking_the_loop() -> None:
    gate = Gate()
    future: EventLoopFuture[str] = EventLoopFuture()

    def hook(timeout: float | None) -> str:
        gate.pass_()
        return "made"

    future.set_get_hook(hook)

    async def release() -> None:
        assert await asyncio.to_thread(gate.reached.wait, DEADLINE_S)
        gate.opened.set()

    async def main() -> None:
        assert await asyncio.gather(_value(future), release()) == ["made", None]

    within_deadline(lambda: asyncio.run(main()))


def test_a_wait_that_is_cancelled_leaves_the_future_as_it_was() -> None:
    future: EventLoopFuture[int] = EventLoopFuture()

    async def main() -> int:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_value(future), 0.001)
        assert not future._waiting
        asyncio.get_running_loop().call_soon(future.set, 7)
        return await future

    assert within_deadline(lambda: asyncio.run(main())) == 7


@pytest.mark.parametrize("kind", [InLoop, Async])
def test_blocking_on_the_loop_is_refused_and_nothing_is_sent(kind: type[Log]) -> None:
    ref, other = kind.start(), Log.start()
    calls: list[Callable[[], Any]] = [
        lambda: other.ask("never sent"),
        lambda: EventLoopFuture().get(),
        lambda: EventLoopFuture().map(str).get(),
        other.stop,
        pykka.ActorRegistry.stop_all,
    ]
    for call in calls:
        with pytest.raises(UsageError, match="would wait for ever"):
            ref.ask(call, timeout=DEADLINE_S)
    assert ended(other).log == []


def test_what_is_there_already_may_be_got_on_the_loop() -> None:
    there: EventLoopFuture[int] = EventLoopFuture()
    there.set(1)
    assert InLoop.start().ask(lambda: there.map(str).get() + str(there.get())) == "11"


# -- the future


def test_a_future_is_settled_once() -> None:
    future: EventLoopFuture[int] = EventLoopFuture()
    future.set(1)
    calls: list[Callable[[], None]] = [future.set, lambda: future.set_get_hook(lambda _: 2)]
    for again in calls:
        with pytest.raises(queue.Full):
            again()
    with pytest.raises(UsageError, match="none is being handled"):
        EventLoopFuture().set_exception()


def test_many_threads_may_wait_for_one_future() -> None:
    future: EventLoopFuture[int] = EventLoopFuture()
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(future.get())) for _ in range(20)]
    for each in threads:
        each.start()
    future.set(7)
    for each in threads:
        each.join(DEADLINE_S)
    assert seen == [7] * 20


def test_the_traceback_is_that_of_the_failure_however_often_it_is_got() -> None:
    ref = Log.start()
    failed = ref.ask(fail, block=False)
    depths: list[int] = []
    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as caught:
            failed.get(timeout=DEADLINE_S)
        depths.append(len(caught.traceback))
        assert caught.traceback[-1].name == "fail"
    assert len(set(depths)) == 1


# -- Pykka's seams


def test_an_actor_that_calls_pykkas_own_constructor_works_too() -> None:
    class Old(EventLoopActor):
        def __init__(self) -> None:
            pykka.Actor.__init__(self)

        def on_receive(self, message: Any) -> Any:
            return message

    ref = Old.start()
    assert type(ref) is pykka.ActorRef
    assert ref.ask("x", timeout=DEADLINE_S) == "x"
    assert ref.stop() is True
    assert not ref.is_alive()


def test_a_plain_reference_to_our_actor_works_too() -> None:
    actor = Log.start()._actor_weakref()
    assert actor is not None
    plain = pykka.ActorRef(actor)
    assert (plain.ask("x"), plain.actor_urn) == ("x", actor.actor_urn)
    assert isinstance(actor.actor_ref, EventLoopActorRef)
    assert plain.stop() is True
    assert not plain.is_alive()


PROGRAM = """
import threading
from llm_net.event_loop_actor import EventLoopActor

class Last(EventLoopActor):
    use_daemon_thread = {daemon}

    def on_receive(self, message):
        threading.main_thread().join()
        print("the program is over, and I am not", flush=True)
        self.stop()

    def on_stop(self):
        print("stopped", flush=True)

ref = Last.start()
if {daemon}:
    print("not waited for", flush=True)
else:
    ref.tell("go on")
"""


@pytest.mark.parametrize(
    ("daemon", "said"),
    [(False, "the program is over, and I am not\nstopped\n"), (True, "not waited for\n")],
)
def test_a_program_ends_when_its_last_actor_does_unless_they_are_daemons(
    daemon: bool,  # noqa: FBT001
    said: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(daemon=daemon)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
