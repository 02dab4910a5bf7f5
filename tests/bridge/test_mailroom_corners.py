"""Messages between Mesa agents where it is narrow: odd answers, odd ears, no rounds, no end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import mesa
import pytest
from pydantic import BaseModel

from llm_net import Message
from llm_net.errors import AskCycle, HandlerError, UsageError
from llm_net.reasoning.plan import Action, Plan
from mesa_bridge import threads
from mesa_bridge.asked import Asked, Questions
from mesa_bridge.checkpoints import resume, run_model
from mesa_bridge.letters import Letter, MailStatistics, address_of
from mesa_bridge.mailroom import aask, ask, dead_letters, deliver, mail_statistics, post, reply
from mesa_bridge.options import Mode
from mesa_bridge.stepping import ParallelStepping
from tests.bridge.test_mailroom import MODES, Deaf, Trader, market, note, stepped
from tests.bridge.thinking import OneQuestion, Society
from tests.waiting import within_deadline


class Quote(BaseModel):
    price: int


# --- What a handler gives ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_handler_gives_what_one_of_a_gen_agent_may_give(mode: Mode) -> None:
    class Generous(Trader):
        def quote(self, message: Message) -> Quote:
            return Quote(price=len(message.body))

        async def aadvice(self, message: Message) -> Plan:
            return Plan(thoughts=message.body, actions=[Action("wait")])

        def both(self, message: Message) -> Iterator[str | Quote]:
            yield "first"
            OneQuestion(self).plan(message.body)
            yield Quote(price=2)

        async def aall(self, message: Message) -> AsyncIterator[Message | None]:
            yield None
            yield message.reply("third")

    def act(self: Any) -> None:
        answers = [
            ask(self, generous, Message("abc", method=each))
            for each in ("quote", "advice", "both", "all")
        ]
        self.log += [(each.method, each.body) for each in answers if each]

    model, (first,) = market(1)
    generous = Generous(model)
    first.act = act
    stepped(model, mode)
    quote, advice, *rest = first.log
    assert quote == ("quote", '{"price":3}')
    assert Plan.model_validate_json(advice[1]).actions == [Action("wait")]
    assert rest == [("response", "first"), ("response", "third")]
    # The second thing that is given has nobody who waits for it, and no handler: it is let be.
    assert [(each.message.method, each.reason) for each in dead_letters(model)] == [
        ("quote", "no_handler")
    ]


@pytest.mark.parametrize("given", [{"price": 3}, 3, [""], Quote])
def test_a_handler_that_gives_anything_else_is_told_what_it_may_give(given: Any) -> None:
    class Wrong(Trader):
        def offer(self, message: Message) -> Any:
            return given

    model, (first,) = market(1)
    with pytest.raises(HandlerError, match=r"None, a text, a pydantic model or a Message\. See"):
        ask(first, Wrong(model), Message(method="offer"))


# --- What an ear does ----------------------------------------------------------------------------


def test_an_ear_may_be_async() -> None:
    class Ear(Trader):
        async def receive_message(self, message: str, sender: Any) -> None:
            await asyncio.sleep(0)
            self.log.append((message, sender.unique_id))

    async def in_a_loop() -> None:
        post(first, ear, Message("there", method="say"))

    model, (first,) = market(1)
    ear = Ear(model)
    post(first, ear, Message("here", method="say"))
    asyncio.run(in_a_loop())
    first.act = lambda self: post(self, ear, Message("everywhere", method="say"))
    stepped(model)
    assert ear.log == [("here", 1), ("there", 1), ("everywhere", 1)]


def test_what_is_said_on_hearing_something_is_heard_at_once_but_not_without_end() -> None:
    class Polite(mesa.Agent):
        patience = 1
        heard = 0

        def receive_message(self, message: str, sender: Any) -> None:
            self.heard += 1
            if self.heard <= self.patience:
                post(self, sender, Message("thanks", method="say"))

    model = mesa.Model(rng=1)
    first, second = Polite(model), Polite(model)
    post(first, second, Message("hello", method="say"))
    assert (first.heard, second.heard) == (1, 2)
    assert mail_statistics(model) == MailStatistics(sent=3, handled=3, queued=0, dead=0)
    first.patience = second.patience = 10**9
    post(first, second, Message("hello", method="say"))
    assert mail_statistics(model).queued == 1


def test_an_ear_in_another_model_than_the_one_whose_turn_it_is_cannot_wait_for_an_answer() -> None:
    class Ear(Trader):
        def receive_message(self, message: str, sender: Any) -> None:
            ask(self, sender, Message(message, method="echo"))

    model, (first,) = market(1)
    elsewhere, (second,) = market(1)
    ear = Ear(elsewhere)
    first.act = lambda _: post(second, ear, Message(method="say"))
    stepped(model)  # would go round for ever
    assert mail_statistics(elsewhere).sent == 1


# --- Without rounds ------------------------------------------------------------------------------


def test_a_blocking_ask_works_in_a_notebook_where_a_loop_runs_in_the_thread_of_every_cell() -> None:
    class Middle(Trader):
        def echo(self, message: Message) -> str:
            answer = ask(self, last, message)
            return f"{answer.body}!" if answer else ""

    async def cell() -> None:
        model.step()
        for mode in MODES:
            report = ParallelStepping(model, mode).do(model.agents, "step")
            assert report.failures == ()

    model, (first, last) = market(2)
    middle = Middle(model)
    first.act = lambda self: self.log.append(ask(self, middle, Message("hi", method="echo")))
    within_deadline(lambda: asyncio.run(cell()))
    assert [each.body for each in first.log] == ["HI!"] * 4


def test_without_rounds_those_who_are_asked_at_once_answer_one_after_the_other() -> None:
    class Slow(Trader):
        async def aecho(self, message: Message) -> str:
            busy.append(message.body)
            await asyncio.sleep(0)
            told.append(list(busy))
            busy.clear()
            return message.body

    async def ask_all() -> list[str]:
        asked = [aask(first, each, Message(f"{n}", method="echo")) for n, each in enumerate(slow)]
        return [each.body for each in await asyncio.gather(*asked) if each]

    busy: list[str] = []
    told: list[list[str]] = []
    model, (first,) = market(1)
    slow = [Slow(model) for _ in range(8)]
    assert asyncio.run(ask_all()) == [f"{n}" for n in range(8)]
    assert told == [[f"{n}"] for n in range(8)]


def test_a_post_looks_at_no_letters_that_wait_already() -> None:
    class Counting(mesa.Model):
        looks = 0

        @property
        def agents(self) -> Any:
            self.looks += 1
            return super().agents

    class Reader(mesa.Agent):
        def note(self, message: Message) -> None: ...

    model = Counting(rng=1)
    first, second = Reader(model), Reader(model)
    costs = []
    for _ in range(10):
        before = model.looks
        post(first, second, note(""))
        costs.append(model.looks - before)
    assert costs[1:] == costs[1:2] * 9


def test_a_circle_is_looked_for_among_those_who_wait_for_each_other_only() -> None:
    class Watched(Asked):
        @property
        def over(self) -> bool:
            looks.append(self.letter.sender)
            return False

        @over.setter
        def over(self, over: bool) -> None: ...

    looks: list[int] = []
    _, agents = market(20)
    questions = Questions()
    for number, (sender, receiver) in enumerate(pairwise(agents[:-2])):
        message = Message(id=f"{number}", receiver=address_of(receiver))
        questions.add(Watched(Letter(message, sender.unique_id, receiver.unique_id), None))
    questions.refuse_circle(agents[-1], agents[-2])
    assert looks == []
    questions.refuse_circle(agents[-1], agents[15])
    assert looks == [16, 17]
    with pytest.raises(AskCycle, match="Trader 18 -> Trader 16 -> Trader 17 -> Trader 18"):
        questions.refuse_circle(agents[17], agents[15])


# --- Bounds --------------------------------------------------------------------------------------


def test_the_latest_dead_letters_are_kept_and_all_are_counted() -> None:
    model, (first,) = market(1)
    deaf = Deaf(model)
    for number in range(1005):
        post(first, deaf, Message(f"{number}", method="say"))
    assert [each.message.body for each in dead_letters(model)] == [f"{n}" for n in range(5, 1005)]
    assert mail_statistics(model) == MailStatistics(sent=1005, handled=0, queued=0, dead=1005)


def test_a_models_time_may_go_on_behind_the_end_of_the_calendar() -> None:
    model, (first, second) = market(2)
    model.steps = 10**13
    if hasattr(model, "time"):
        model.time = 1e13
    assert post(first, second, note("")).created_at.year < 10_000


# --- What lasts ----------------------------------------------------------------------------------


def test_a_model_with_letters_that_wait_is_let_go() -> None:
    model, (first, second) = market(2)
    stepped(model)
    post(first, second, note("never read"))
    getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 holds every model here
    held = weakref.ref(model)
    del model, first, second
    gc.collect()
    assert held() is None


class Player(mesa.Agent):
    """Plays a ball back."""

    played = 0

    def ball(self, message: Message) -> Message:
        self.played += 1
        return Message(f"{message.reply_to_id} {self.played}", method="ball")


class Match(mesa.Model):
    """Two players, and a few exchanges each step; may be struck down in its fourth."""

    def __init__(self, storm: Path) -> None:
        super().__init__(rng=1)
        self.storm = storm
        post(Player(self), Player(self), Message(method="ball"))

    def step(self) -> None:
        deliver(self, max_rounds=3)
        if self.steps == 4 and self.storm.exists():
            raise RuntimeError("struck by lightning")


def test_a_run_that_is_resumed_goes_on_with_the_letters_that_waited(tmp_path: Path) -> None:
    storm = tmp_path / "storm"
    steady = run_model(Match(storm), 6)
    storm.touch()
    with pytest.raises(RuntimeError, match="lightning"):
        run_model(Match(storm), 6, checkpoint_every=3, path=tmp_path / "match.checkpoint")
    storm.unlink()
    resumed = resume(tmp_path / "match.checkpoint")
    assert mail_statistics(resumed) == mail_statistics(steady)
    assert mail_statistics(steady).queued == 1
    for each in (resumed, steady):
        deliver(each, max_rounds=1)
    assert [each.played for each in resumed.agents] == [each.played for each in steady.agents]


# --- What cannot be ------------------------------------------------------------------------------


def test_messages_go_from_one_agent_to_one_agent() -> None:
    model: Society
    model, (first, second) = market(2)
    got = post(second, first, note(""))
    for receiver in (None, model, [second], "Trader 2", 2):
        for send in (post, ask):
            with pytest.raises(UsageError, match=r"is no Mesa agent\. .* Give an agent"):
                send(first, receiver, note(""))
    with pytest.raises(UsageError, match="is no Mesa agent"):
        post(model, first, note(""))
    with pytest.raises(UsageError, match="None is no message"):
        reply(first, got, None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'x' is no message"):
        reply(first, "x", "y")  # type: ignore[arg-type]
    assert mail_statistics(model).sent == 1


@pytest.mark.parametrize("mode", MODES)
def test_what_waits_from_before_is_handled_before_anybodys_turn(mode: Mode) -> None:
    class Reader(Trader):
        def step(self) -> None:
            self.log.append("looks")
            OneQuestion(self).plan("what now?")
            self.log.append("acts")

        def note(self, message: Message) -> None:
            self.log.append(message.body)
            OneQuestion(self).plan("what does it mean?")
            self.log.append("understands")

    model = Society([[[]]], kinds=(Reader,), size=2)
    first, second = model.agents
    for word in ("one", "two"):
        post(first, second, note(word))
    stepped(model, mode)
    assert first.log == ["looks", "acts"]
    assert second.log == ["one", "understands", "two", "understands", "looks", "acts"]


@pytest.mark.parametrize("mode", MODES)
def test_a_new_thread_does_not_hold_the_model_for_which_it_was_made(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_idle", [])
    model, (first, second) = market(2)
    first.act = lambda self: ask(self, self.model.agents[1], Message(method="echo"))
    stepped(model, mode)
    getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 holds every model here
    held = weakref.ref(model)
    del model, first, second
    gc.collect()
    assert held() is None
