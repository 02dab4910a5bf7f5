"""A thread whose handler has returned stands in for the engine's while that sleeps."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from llm_net import Envelope, GenAgent, GenNetwork, Instrument, Message, Runtime
from llm_net.asks import Ask
from llm_net.inbox import Inbox
from llm_net.mailbox import Letter
from llm_net.parking import Parking
from llm_net.speech import Emission
from llm_net.turn import Turn
from tests.waiting import DEADLINE_S, within_deadline

LAPS = 300


@pytest.fixture
def parking() -> Iterator[Parking]:
    with Parking() as made:
        yield made


def test_nobody_stands_in_for_a_thread_that_is_awake(parking: Parking) -> None:
    assert not parking.stand_in(lambda: pytest.fail("it is awake"))


def test_who_sleeps_goes_on_only_when_nobody_stands_in_any_more(parking: Parking) -> None:
    ours, theirs = socket.socketpair()
    parking.register(ours, selectors.EVENT_READ)
    thread = threading.Thread(target=parking.select, args=(DEADLINE_S,), daemon=True)
    thread.start()
    while not parking.asleep:
        thread.join(0.001)
    seen: list[bool] = []

    def call() -> None:
        theirs.send(b"!")
        while parking.asleep:
            thread.join(0.001)
        seen.append(thread.is_alive())
        assert not parking.stand_in(lambda: pytest.fail("one at a time"))

    assert parking.stand_in(call)
    thread.join(DEADLINE_S)
    assert (seen, thread.is_alive()) == ([True], False)
    ours.close()
    theirs.close()


# -- agents

HERE: set[tuple[str, int]] = set()
"""What of the user's ran, and on which thread."""


def note(what: str) -> None:
    HERE.add((what, threading.get_ident()))


class OnThread(GenAgent):
    """Passes the token on from a thread, and tells everybody else."""

    def step(self, message: Message) -> None:
        note("handler on a thread")
        left = int(message.body)
        self.emit("news", message.body)
        self.emit("filtered", message.body)
        if left:
            self.emit("step", str(left - 1))


class InLoop(GenAgent):
    blocking: ClassVar[bool] = False

    def on_start(self) -> None:
        note("hook")

    def news(self, message: Message) -> None:
        note("handler in the loop")

    def filtered(self, message: Message) -> None:
        note("handler behind a filter")


class Awaiting(GenAgent):
    async def anews(self, message: Message) -> None:
        note("async handler")
        await asyncio.sleep(0)


class Watching(Instrument):
    def deliver(self, envelope: Envelope, receiver: str) -> None:
        note("instrument")


def passes(message: Message) -> bool:
    note("filter")
    return True


@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
@pytest.mark.parametrize("listens", [False, True], ids=["", "listens"])
def test_whatever_is_not_for_threads_runs_on_the_engines_own(
    *, listens: bool, watched: bool
) -> None:
    HERE.clear()
    runtime = Runtime("thread", instruments=[Watching()] if watched else [])
    ring = [OnThread(name=f"t{index}") for index in range(3)]
    edges = [(f"t{index}", "step", f"t{(index + 1) % 3}") for index in range(3)]
    net = GenNetwork(name="net", agents=[*ring, InLoop(), Awaiting()], edges=edges, entry="t0")
    net.link("t0", "news", "in_loop")
    net.link("t1", "news", "awaiting")
    net.link("t2", "filtered", "in_loop", where=passes)
    if listens:
        ring[1].on("news", lambda _message: note("listener"))
    with net.start(runtime=runtime):
        engine = runtime.engine.thread
        run = within_deadline(lambda: net.run(str(LAPS)))
    assert run.statistics.queued == 0
    assert run.statistics.sent == run.statistics.delivered + run.statistics.dead
    elsewhere = {what for what, thread in HERE if thread != engine}
    assert elsewhere == {"handler on a thread"}
    expected = {"hook", "handler in the loop", "async handler", "filter"}
    assert expected <= {what for what, _ in HERE}


class Nosy(Ask):
    """Somebody's own code hears the answer."""

    light = False


@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
def test_nothing_is_light_where_the_users_code_looks_on(*, watched: bool) -> None:
    runtime = Runtime("inline", instruments=[Watching()] if watched else [])
    agent = OnThread()
    with agent.start(runtime=runtime):
        cell = next(iter(runtime.roots))
        assert (cell.light, Inbox.light) == (not watched, False)
        message = Message("0").filled(None, None)
        for sink, asked, light in (
            (None, False, True),
            (Ask(), True, True),
            (Nosy(), False, False),
        ):
            turn = Turn(cell, Letter(message, runtime.world, 0, sink=sink), runtime.world)
            assert (turn.is_asked, turn.light) == (asked and not watched, light and not watched)
            turn.abandoned = True
            assert not turn.light
        hook = Turn(cell, None, runtime.world)
        assert not hook.light
        assert Emission(cell, (cell,), message, None).light is not watched


def test_a_deputy_leaves_a_message_whose_end_the_users_code_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = Runtime("inline")
    with OnThread().start(runtime=runtime):
        cell = next(iter(runtime.roots))
        monkeypatch.setattr(runtime.engine, "deputized", True)
        for sink, served in ((Ask(), True), (Nosy(), False)):
            letter = Letter(Message(method="nobody_has"), runtime.world, 0, sink=sink)
            sink.expect(1)
            cell.put(letter)
            assert (cell.serve(), sink.done, len(cell.mail)) == (served, served, not served)
        monkeypatch.undo()


@pytest.mark.parametrize("host", ["thread", "inline"])
def test_what_a_handler_says_before_it_blocks_is_heard_while_it_blocks(host: Any) -> None:
    heard = threading.Event()

    class Speaker(GenAgent):
        def step(self, message: Message) -> str:
            self.emit("news", message.body)
            return "in time" if heard.wait(DEADLINE_S) else "late"

    class Hearer(GenAgent):
        def news(self, message: Message) -> None:
            heard.set()

    net = GenNetwork(
        name="net",
        agents=[Speaker(), Hearer()],
        edges=[("speaker", "news", "hearer")],
        entry="speaker",
    )
    with net.start(runtime=Runtime(host)) as ref:
        for _ in range(20):
            heard.clear()
            answer = ref.ask("go")
            assert answer is not None
            assert answer.body == "in time"


@pytest.mark.parametrize("what", ["hello?", Message("hello?")])
@pytest.mark.parametrize("blocking", [True, False])
def test_what_nobody_hears_is_no_message_of_the_run(what: Message | str, *, blocking: bool) -> None:
    class Talker(GenAgent):
        def step(self, message: Message) -> None:
            self.emit("unheard", what)

    Talker.blocking = blocking
    net = GenNetwork(name="net", agents=[Talker(name="a")], entry="a")
    assert [each.body for each in net.stream("go")] == ["go"]
