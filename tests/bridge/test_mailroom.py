"""Messages between Mesa agents: who gets them, when, in what order, and what becomes of answers."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import pickle
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import mesa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_net import Message
from llm_net.errors import (
    AgentStopped,
    AskCycle,
    AskTimeout,
    DeliveryError,
    HandlerError,
    NoHandler,
    UsageError,
)
from llm_net.memory.short_term import ShortTermMemory
from llm_net.reasoning.cot import CoTReasoning
from mesa_bridge.hook import enable_automatic_parallel_stepping
from mesa_bridge.letters import MailStatistics, Spoken
from mesa_bridge.llm_agent import LLMAgent
from mesa_bridge.mailroom import (
    aask,
    ask,
    dead_letters,
    deliver,
    mail_statistics,
    post,
    reply,
)
from mesa_bridge.options import Mode
from mesa_bridge.stepping import ParallelStepping, last_report, step_agents_parallel_sync
from tests.bridge.thinking import Citizen, OneQuestion, Oracle, Society, digest
from tests.waiting import DEADLINE_S, within_deadline

MODES: tuple[Mode, ...] = ("asyncio", "threading", "sequential")


class Offer(Message):
    price: int


class Bargain(Message):
    price: int


class Trader(Citizen):
    """Tells its log, in order, what happened to it."""

    act: Callable[[Any], Any] | None = None

    def step(self) -> None:
        if self.act is not None:
            self.act(self)

    def note(self, message: Message) -> None:
        self.log.append((message.body, str(message.sender), self.model.tick()))

    def echo(self, message: Message) -> str:
        return message.body.upper()

    def response(self, message: Message) -> None:
        self.log.append(("answer", message.body, message.reply_to_id))

    def fail(self, message: Message) -> None:  # type: ignore[override]
        raise ValueError(message.body)


class Deaf(mesa.Agent):
    """Takes no messages."""

    wealth = 0


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Failures are part of the programs: say nothing about them."""
    logging.getLogger("mesa_bridge").disabled = True
    yield
    logging.getLogger("mesa_bridge").disabled = False


def market(size: int = 3) -> tuple[Society, list[Any]]:
    model = Society([[[]]], kinds=(Trader,), size=size)
    return model, list(model.agents)


def stepped(model: Society, mode: Mode = "asyncio", **options: Any) -> Any:
    report = within_deadline(
        lambda: ParallelStepping(model, mode, **options).do(model.agents, "step")
    )
    assert report.failures == (), report.failures[0].details
    return report


def answer_to(sender: Any, receiver: Any, body: str, **options: Any) -> str:
    answer = ask(sender, receiver, Message(body, method="echo"), **options)
    assert answer is not None
    return answer.body


def note(body: str) -> Message:
    return Message(body, method="note")


# --- Who gets a message --------------------------------------------------------------------------


def test_a_message_names_its_sender_and_receiver_and_its_id_and_time_follow_from_the_model() -> (
    None
):
    twins = []
    for _ in range(2):
        model, (first, second, _) = market()
        model.step()
        twins.append([post(first, second, note("a")), post(first, second, note("b"))])
    one, other = twins
    assert [each.id for each in one] == ["1.1.1", "1.1.2"]
    assert [each.model_dump() for each in one] == [each.model_dump() for each in other]
    assert (str(one[0].sender), str(one[0].receiver)) == ("Trader 1", "Trader 2")


def test_a_message_goes_to_the_handler_of_its_name_or_to_the_ear_or_to_the_memory() -> None:
    class Ear(mesa.Agent):
        def receive_message(self, message: str, sender: Any) -> None:
            self.heard = (message, sender.unique_id)

    class Buyer(Trader):
        async def aoffer(self, message: Offer) -> None:
            self.log.append(message.price)

        def offer(self, message: Offer) -> None:
            raise AssertionError("the async one goes before")

    model, (sender, *_) = market(1)
    buyer, ear, keeper = Buyer(model), Ear(model), Deaf(model)
    keeper.memory = ShortTermMemory(keeper)
    for each in (buyer, ear, keeper):
        post(sender, each, Offer("Take it.", price=4))
    deliver(model)
    assert buyer.log == [4]
    assert ear.heard == ('Take it.\n{"price": 4}', 1)
    keeper.memory.process_step()
    (entry,) = keeper.memory.short_term_memory
    assert entry.content["message"] == [{"message": 'Take it.\n{"price": 4}', "sender": 1}]
    assert mail_statistics(model) == MailStatistics(sent=3, handled=3, queued=0, dead=0)


@pytest.mark.parametrize("method", ["step", "remove", "pay", "_note", "__init__", "<call>", ""])
def test_only_a_method_that_is_declared_as_a_handler_is_ever_reached(method: str) -> None:
    class Careless(Trader):
        def step(self, message: Any = None) -> None:
            raise AssertionError("a name of Mesa's own is no handler")

        def _note(self, message: Message) -> None:
            raise AssertionError("neither is what is private")

    model, (first,) = market(1)
    second = Careless(model)
    post(first, second, Message("2", method=method))
    deliver(model)
    (dead,) = dead_letters(model)
    assert (dead.message.body, dead.reason, dead.receiver) == ("2", "no_handler", "Careless 2")
    assert second in model.agents
    assert second.wealth == 10


def test_a_handler_takes_no_message_of_another_class() -> None:
    class Buyer(Trader):
        def offer(self, message: Offer) -> None:
            self.log.append(message.price)

    model, (sender,) = market(1)
    buyer = Buyer(model)
    post(sender, buyer, Message("4", method="offer"))
    deliver(model)
    assert (buyer.log, [each.reason for each in dead_letters(model)]) == ([], ["no_handler"])


@pytest.mark.parametrize("mode", MODES)
def test_a_message_to_an_agent_that_is_removed_before_it_is_handled_is_a_dead_letter(
    mode: Mode,
) -> None:
    model, (first, second, third) = market()
    first.act = lambda self: post(self, third, note("too late"))
    second.act = lambda _: third.remove()
    stepped(model, mode)
    (dead,) = dead_letters(model)
    assert (dead.message.body, dead.reason, dead.receiver) == ("too late", "stopped", "Trader 3")
    assert mail_statistics(model) == MailStatistics(sent=1, handled=0, queued=0, dead=1)


def test_an_answer_goes_back_with_the_thread_it_belongs_to() -> None:
    model, (first, second) = market(2)
    asked = post(first, second, Message("hello", method="echo"))
    deliver(model)
    assert first.log == [("answer", "HELLO", asked.id)]
    later = reply(second, asked, Offer("and", price=3))
    assert isinstance(later, Offer)
    assert (later.reply_to_id, str(later.receiver), later.thread[0]) == (
        asked.id,
        "Trader 1",
        asked,
    )


def test_an_answer_that_nobody_handles_is_let_go_and_one_to_who_is_gone_is_dead() -> None:
    model, (first, second) = market(2)
    quiet, gone = Deaf(model), Deaf(model)
    post(quiet, second, Message("hello", method="echo"))
    asked = post(gone, second, Message("hello", method="echo"))
    gone.remove()
    deliver(model)
    reply(first, asked, "still there?")
    assert [each.reason for each in dead_letters(model)] == ["stopped", "stopped"]
    assert mail_statistics(model) == MailStatistics(sent=5, handled=3, queued=0, dead=2)


# --- When, and in what order ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_what_is_posted_in_a_round_is_handled_when_all_have_had_their_turn_in_it(
    mode: Mode,
) -> None:
    def act(self: Any) -> None:
        post(self, others[-1], note("first"))
        self.log.append(("acted", self.model.tick()))
        post(self, others[-1], note("second"))

    model, others = market(4)
    for each in others:
        each.act = act
    stepped(model, mode)
    assert [each.log[0] for each in others] == [("acted", tick) for tick in (1, 2, 3, 4)]
    told = [(body, sender) for body, sender, _ in others[-1].log[1:]]
    assert told == [
        (body, f"Trader {number}") for number in (1, 2, 3, 4) for body in ("first", "second")
    ]


Posts = Sequence[Sequence[tuple[int, bool]]]


@settings(max_examples=60)
@given(
    posts=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=4), min_size=5, max_size=5
    ),
    mode=st.sampled_from(MODES),
    latency=st.sampled_from([0.0, 0.002]),
    seed=st.integers(0, 9),
)
def test_messages_of_every_round_are_handled_by_turn_of_the_sender_and_then_by_sequence(
    posts: Posts, mode: Mode, latency: float, seed: int
) -> None:
    """Each agent posts to others, planning before some of its posts; each plan begins a round."""

    class Chatty(Trader):
        def step(self) -> None:
            luck, rounds = OneQuestion(self), 0
            for number, (to, plans) in enumerate(posts[self.unique_id - 1]):
                if plans:
                    luck.plan(f"{number}")
                    rounds += 1
                post(self, agents[to], note(f"{rounds}{order.index(self.unique_id)}{number}"))

        def note(self, message: Message) -> None:
            handled.append((self.unique_id, message.body))

    order: list[int] = []
    handled: list[tuple[int, str]] = []  # round, turn and sequence are digits of the text
    model = Society([[[]]], Oracle(latency, seed), kinds=(Chatty,), size=5, rng=seed)
    agents = sorted(model.agents, key=lambda agent: agent.unique_id)
    model.random.shuffle(shuffled := list(agents))
    order += [each.unique_id for each in shuffled]
    report = step_agents_parallel_sync(shuffled, mode=mode)
    assert report.failures == ()
    assert len(handled) == sum(len(each) for each in posts)
    for agent in agents:  # each may come to its letters late, but never in another order
        mine = [body for receiver, body in handled if receiver == agent.unique_id]
        assert mine == sorted(mine)
    if not any(plans for each in posts for _, plans in each):
        assert [body for _, body in handled] == sorted(body for _, body in handled)


def test_who_is_in_the_middle_of_something_comes_to_its_letters_when_that_is_over() -> None:
    model, (first, second, third) = market()

    def busy(self: Any) -> None:
        for number in range(3):
            self.log.append(("plans", number))
            OneQuestion(self).plan("on")

    second.act = busy
    first.act = third.act = lambda self: post(self, second, note("excuse me"))
    stepped(model)
    assert [each[0] for each in second.log] == ["plans"] * 3 + ["excuse me"] * 2
    assert [each[1] for each in second.log[3:]] == ["Trader 1", "Trader 3"]


def test_handlers_of_one_agent_never_run_beside_each_other_though_they_plan() -> None:
    class Thinker(Trader):
        busy = False

        def note(self, message: Message) -> None:
            assert not self.busy
            self.busy = True
            OneQuestion(self).plan(message.body)
            self.busy = False
            super().note(message)

    model, senders = market(4)
    thinker = Thinker(model)
    for each in senders:
        each.act = lambda self: post(self, thinker, note(f"{self.unique_id}"))
    stepped(model)
    assert [body for body, *_ in thinker.log] == ["1", "2", "3", "4"]


def test_handlers_of_different_agents_plan_at_the_same_time() -> None:
    class Thinker(Trader):
        async def anote(self, message: Message) -> None:
            await OneQuestion(self).aplan(message.body)

    model, (sender,) = market(1)
    model.oracle = Oracle(together=8)
    thinkers = [Thinker(model) for _ in range(8)]
    sender.act = lambda self: [post(self, each, note("think")) for each in thinkers]
    assert stepped(model).max_in_flight == 8


def test_past_the_last_round_the_rest_waits_for_the_next_activation() -> None:
    class Player(Trader):
        def ball(self, message: Message) -> Message:
            self.log.append(self.model.steps)
            return Message(method="ball")

    model = Society([[[]]], kinds=(Player,), size=2)
    first, second = list(model.agents)
    post(first, second, Message(method="ball"))
    with enable_automatic_parallel_stepping(model, max_rounds=4):
        model.step()
        assert (len(first.log), len(second.log)) == (2, 2)
        assert mail_statistics(model) == MailStatistics(sent=5, handled=4, queued=1, dead=0)
        model.step()
    assert (first.log, second.log) == ([1, 1, 2, 2], [1, 1, 2, 2])


def test_without_an_activation_what_has_a_handler_waits_and_what_is_to_be_noted_does_not() -> None:
    model, (first, second) = market(2)
    keeper: Any = Deaf(model)
    keeper.memory = ShortTermMemory(keeper)
    first.act = lambda self: (post(self, second, note("wait")), post(self, keeper, Spoken("now")))
    model.step()
    assert "now" in keeper.memory.get_prompt_ready()
    assert second.log == []
    deliver(model)
    assert [body for body, *_ in second.log] == ["wait"]


def test_in_an_activation_within_a_turn_messages_wait_for_the_one_around_it() -> None:
    model, (first, second, third) = market()

    def act(self: Any) -> None:
        model.agents.select(lambda agent: agent is third).do("step")
        self.log.append(("acted", model.tick()))

    first.act = act
    third.act = lambda self: post(self, second, note("hello"))
    with enable_automatic_parallel_stepping(model):
        model.agents.do("step")
    assert first.log == [("acted", 1)]
    assert [body for body, *_ in second.log] == ["hello", "hello"]


def test_in_an_activation_within_a_turn_nobody_can_wait_for_an_answer() -> None:
    def ask_in_vain(self: Any) -> None:
        with pytest.raises(UsageError, match="Trader 2 asks where it cannot wait"):
            ask(self, first, Message("x", method="echo"))
        self.log.append("done")

    model, (first, second) = market(2)
    second.act = ask_in_vain
    first.act = lambda _: model.agents.select(lambda agent: agent is second).do("step")
    with enable_automatic_parallel_stepping(model):
        model.agents.select(lambda agent: agent is first).do("step")
    assert second.log == ["done"]
    assert mail_statistics(model).sent == 0


# --- Asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_takes_two_rounds(mode: Mode) -> None:
    def patient(self: Any) -> None:
        self.log.append(answer_to(self, second, "hi", timeout_rounds=2))

    def hasty(self: Any) -> None:
        with pytest.raises(AskTimeout, match="Trader 2 has not answered 'echo' of Trader 3"):
            ask(self, second, Message("ho", method="echo"), timeout_rounds=1)

    model, (first, second, third) = market()
    first.act, third.act = patient, hasty
    stepped(model, mode)
    assert first.log == ["HI"]
    assert [each[:2] for each in third.log] == [("answer", "HO")]  # late: a message like any other
    assert mail_statistics(model) == MailStatistics(sent=4, handled=4, queued=0, dead=0)


def test_the_first_of_several_answers_is_the_one_that_is_waited_for() -> None:
    class Talker(Trader):
        def echo(self, message: Message) -> str:
            reply(self, message, "first")
            return "second"

    model, (first,) = market(1)
    talker = Talker(model)
    first.act = lambda self: self.log.append(answer_to(self, talker, ""))
    stepped(model)
    assert [each if isinstance(each, str) else each[:2] for each in first.log] == [
        "first",
        ("answer", "second"),
    ]


@pytest.mark.parametrize("inside", [True, False])
def test_an_ask_says_why_there_is_no_answer(inside: bool) -> None:  # noqa: FBT001
    model, (first, second, third) = market()
    deaf, gone = Deaf(model), Deaf(model)
    keeper: Any = Deaf(model)
    keeper.memory = ShortTermMemory(keeper)
    gone.remove()

    def act(self: Any) -> None:
        assert ask(self, second, note("no answer")) is None
        assert ask(self, keeper, Message("what I note, I do not answer")) is None
        with pytest.raises(NoHandler, match=r"Deaf 4 has no handler for 'echo' of Trader 1"):
            ask(self, deaf, Message(method="echo"))
        with pytest.raises(AgentStopped, match="Deaf 5 was removed"):
            ask(self, gone, Message(method="echo"))
        with pytest.raises(HandlerError, match="Trader 3 raised ValueError on 'fail'") as raised:
            ask(self, third, Message("broken", method="fail"))
        assert isinstance(raised.value.__cause__, ValueError)
        self.log.append("done")

    first.act = act
    if inside:
        report = ParallelStepping(model).do(model.agents, "step")
        assert [each.error for each in report.failures] == ["ValueError: broken"]
    else:
        within_deadline(first.step)
    assert first.log == ["done"]


def test_who_is_asked_and_removed_while_it_thinks_is_not_waited_for() -> None:
    class Thinker(Trader):
        def echo(self, message: Message) -> str:
            OneQuestion(self).plan("hm")
            return "never"

    model, (first, second) = market(2)
    thinker = Thinker(model)

    def act(self: Any) -> None:
        with pytest.raises(AgentStopped, match="Thinker 3 has not finished 'echo'"):
            ask(self, thinker, Message(method="echo"))
        self.log.append("done")

    def remove(self: Any) -> None:
        OneQuestion(self).plan("one")
        OneQuestion(self).plan("two")
        thinker.remove()

    first.act, second.act = act, remove
    report = stepped(model)
    assert (first.log, report.dropped) == (["done"], (3,))


def test_an_answer_to_who_was_removed_while_it_waited_is_a_dead_letter() -> None:
    model, (first, second, third) = market()
    first.act = lambda self: ask(self, second, Message(method="echo"))

    def remove(_: Any) -> None:
        OneQuestion(third).plan("in the next round")
        first.remove()

    third.act = remove
    assert stepped(model).dropped == (1,)
    assert [(each.message.method, each.reason) for each in dead_letters(model)] == [
        ("response", "stopped")
    ]


@pytest.mark.usefixtures("_quiet")  # a log keeps what it is told
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["post", "ask"])
def test_what_a_handler_raised_holds_no_agent_that_is_removed(mode: Mode, kind: str) -> None:
    """Where Mesa holds agents weakly, one that is held is stepped on though it was removed."""

    def act(self: Any) -> None:
        message = Message(method="fail")
        if kind == "post":
            post(self, model.agents[1], message)
        else:
            with contextlib.suppress(HandlerError):
                ask(self, model.agents[1], message)

    model, agents = market(2)
    agents[0].act = act
    with enable_automatic_parallel_stepping(model, mode):
        model.step()
    last = agents.pop()
    held = weakref.ref(last)
    gc.disable()
    try:
        last.remove()
        del last
        assert held() is None
    finally:
        gc.enable()


def test_what_stands_in_a_handler_is_let_go_when_the_activation_ends_early() -> None:
    class Thinker(Trader):
        async def anote(self, message: Message) -> None:
            try:
                await OneQuestion(self).aplan("never")
            finally:
                let_go.set()

    def broke(plans: Sequence[Any]) -> None:
        raise RuntimeError([agent.unique_id for agent, _ in plans])

    let_go = threading.Event()
    model, (first,) = market(1)
    thinker = Thinker(model)
    first.act = lambda self: post(self, thinker, note("think"))
    with pytest.raises(RuntimeError, match=r"\[2\]"):
        ParallelStepping(model, before_plans=broke).do(model.agents, "step")
    assert let_go.wait(DEADLINE_S)


@pytest.mark.parametrize("mode", MODES)
def test_a_circle_of_asks_fails_at_once_and_is_named(mode: Mode) -> None:
    class Shy(Trader):
        def echo(self, message: Message) -> str:
            answer = ask(self, following[self], Message("and you?", method="echo"))
            return answer.body if answer else ""

    model = Society([[[]]], kinds=(Shy,), size=3)
    first, second, third = agents = list(model.agents)
    following = dict(zip(agents, [second, third, first], strict=True))
    first.act = lambda self: self.echo(Message())
    report = within_deadline(lambda: ParallelStepping(model, mode).do(model.agents, "step"))
    assert report.failures[0].error.startswith(
        "llm_net.errors.AskCycle: Shy 3 asks Shy 1, which waits for it: "
        "Shy 3 -> Shy 1 -> Shy 2 -> Shy 3."
    )
    assert [each.agent for each in report.failures] == [3, 2, 1]
    with pytest.raises(AskCycle) as raised:
        ask(first, first, Message(method="echo"))
    assert raised.value.circle == ("Shy 1", "Shy 1")


def test_several_asks_of_one_agent_wait_together() -> None:
    class Poll(Trader):
        async def astep(self) -> None:
            asked = [
                aask(self, each, Message(f"{n}", method="echo")) for n, each in enumerate(all_)
            ]
            answers = await asyncio.gather(*asked)
            self.log.append([each.body for each in answers if each])

    model, all_ = market(5)
    poll = Poll(model)
    stepped(model, max_rounds=2)
    assert poll.log == [["0", "1", "2", "3", "4"]]


def test_without_an_activation_an_ask_is_answered_in_place() -> None:
    class Middle(Trader):
        async def aecho(self, message: Message) -> str:
            answer = await aask(self, last, message)
            return f"{answer.body}!" if answer else ""

    model, (first, last) = market(2)
    middle = Middle(model)
    post(last, first, note("for the one who asks: not now"))
    first.act = lambda self: self.log.append(answer_to(self, middle, "hi"))
    within_deadline(model.step)
    assert first.log == ["HI!"]
    answer = asyncio.run(aask(first, middle, Message("ho", method="echo")))
    assert answer is not None
    assert answer.body == "HO!"
    assert mail_statistics(model).queued == 1


def test_rounds_without_messages_do_not_count() -> None:
    def act(self: Any) -> None:
        self.log.append(answer_to(self, second, "hi"))
        for number in range(6):
            OneQuestion(self).plan(f"{number}")
        self.log.append(answer_to(self, second, "ho"))

    model, (first, second) = market(2)
    first.act = act
    stepped(model, max_rounds=4)
    assert first.log == ["HI", "HO"]


def test_an_open_ask_ends_with_the_rounds() -> None:
    class Slow(Trader):
        def echo(self, message: Message) -> str:
            for number in range(10):
                OneQuestion(self).plan(f"{number}")
            return "at last"

    model, (first,) = market(1)
    slow = Slow(model)

    def act(self: Any) -> None:
        with pytest.raises(AskTimeout, match="all 4 rounds are over"):
            ask(self, slow, Message(method="echo"))
        with pytest.raises(AskTimeout, match="all 4 rounds are over"):
            ask(self, slow, Message(method="echo"))
        self.log.append("done")

    first.act = act
    stepped(model, max_rounds=4)
    assert mail_statistics(model) == MailStatistics(sent=3, handled=1, queued=2, dead=0)
    first.act = None
    deliver(model)
    assert first.log == ["done", *(("answer", "at last", each) for each in ("0.1.1", "0.1.2"))]


# --- A negotiation within one step ---------------------------------------------------------------


class Negotiator(Citizen):
    """Its model's answers say how far it moves."""

    def move(self, thoughts: str) -> int:  # type: ignore[override]
        return 1 + int(thoughts, 16) % 5


class Seller(Negotiator):
    """Answers each offer with another, until they meet."""

    async def aoffer(self, message: Offer) -> Message:
        plan = await OneQuestion(self).aplan(f"I am offered {message.price}.")
        self.place = max(message.price, (self.place or 60) - self.move(plan.thoughts))
        self.log.append((message.id, str(message.sender), self.place, self.model.tick()))
        return (Bargain if self.place == message.price else Offer)(price=self.place)


class Buyer(Negotiator):
    """Goes on offering, to one seller after another."""

    def negotiation(self) -> Generator[tuple[str, Any], Any, None]:
        for seller in self.model.agents_by_type[Seller]:
            price = 10
            while True:
                answer = yield "ask", (seller, Offer(price=price))
                plan = yield "plan", f"The seller wants {answer.price}."
                if answer.method == "bargain":
                    self.pay(answer.price)
                    self.log.append(
                        (answer.id, answer.price, len(answer.thread), self.model.tick())
                    )
                    break
                price = min(answer.price, price + self.move(plan.thoughts))


class PatientBuyer(Buyer):
    def step(self) -> None:
        reasoning, talk, given = OneQuestion(self), self.negotiation(), None
        while (wish := next_wish(talk, given)) is not None:
            word, what = wish
            given = reasoning.plan(what) if word == "plan" else ask(self, *what)


class AsyncBuyer(Buyer):
    async def astep(self) -> None:
        reasoning, talk, given = OneQuestion(self), self.negotiation(), None
        while (wish := next_wish(talk, given)) is not None:
            word, what = wish
            given = await (reasoning.aplan(what) if word == "plan" else aask(self, *what))


def next_wish(talk: Generator[Any, Any, None], given: Any) -> Any:
    try:
        return talk.send(given)
    except StopIteration:
        return None


def negotiated(mode: Mode, oracle: Oracle, cap: int | None = None) -> Any:
    kinds = (PatientBuyer, AsyncBuyer, Seller, PatientBuyer, Seller)
    model = Society([[[]]], oracle, kinds=kinds, size=5)
    with enable_automatic_parallel_stepping(
        model, mode, max_in_flight=cap, max_rounds=500, on_error="raise"
    ):
        within_deadline(model.step)
    report = last_report(model)
    assert report is not None
    told = [(type(each).__name__, each.wealth, each.place, each.log) for each in model.agents]
    return told, model.ticks, model.random.getstate(), mail_statistics(model), report.plans


@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    cap=st.none() | st.integers(1, 4),
    oracle=st.builds(Oracle, st.sampled_from([0.0, 0.002]), st.integers(0, 99)),
)
def test_a_negotiation_takes_place_within_one_step_and_is_the_same_however_it_is_stepped(
    mode: Mode, cap: int | None, oracle: Oracle
) -> None:
    told, *rest = negotiated(mode, oracle, cap)
    bargains = [log for kind, *_, log in told if kind.endswith("Buyer")]
    assert [len(each) for each in bargains] == [2, 2, 2]
    assert rest[2].queued == rest[2].dead == 0
    assert (told, *rest) == negotiated("sequential", Oracle())


# --- Conservation --------------------------------------------------------------------------------


METHODS = ("note", "echo", "fail", "chat", "gossip", "nonsense")


class Busybody(Trader):
    """Does what a program says, in its step and whenever somebody chats to it, or gossips."""

    def step(self) -> None:
        for _ in range(3):
            self.does()

    def chat(self, message: Message) -> str:
        self.does()
        return message.body

    def gossip(self, message: Message) -> Iterator[str]:
        yield message.body
        self.does()
        yield "and then"

    def does(self) -> None:
        deed, number = self.model.program.pop() if self.model.program else ("pay", 0)
        everyone = list(self.model.agents)
        other = everyone[number % len(everyone)]
        message = Message(f"{number}", method=METHODS[number % len(METHODS)])
        conserved(self.model)
        if deed == "post":
            self.log.append(post(self, other, message).id)
        elif deed == "ask":
            with contextlib.suppress(DeliveryError):
                self.log.append(repr(ask(self, other, message, timeout_rounds=1 + number % 3)))
        elif deed == "plan":
            OneQuestion(self).plan(f"{number}")
        else:
            getattr(self, deed)(number)
        conserved(self.model)


def conserved(model: Any) -> None:
    count = mail_statistics(model)
    assert count.sent == count.handled + count.queued + count.dead


DEEDS = ("post", "post", "ask", "ask", "plan", "eat", "bear", "pay")


@pytest.mark.usefixtures("_quiet")
@settings(max_examples=80, deadline=None)
@given(
    deeds=st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 19)), max_size=40),
    mode=st.sampled_from(MODES),
    rounds=st.integers(1, 6),
    oracle=st.builds(Oracle, st.sampled_from([0.0, 0.002]), st.integers(0, 9)),
)
def test_every_message_is_handled_or_waits_or_is_dead_and_every_mode_agrees_which(
    deeds: list[tuple[str, int]], mode: Mode, rounds: int, oracle: Oracle
) -> None:
    def stepped_with(mode: Mode, oracle: Oracle) -> Any:
        model: Any = Society([], oracle, kinds=(Busybody,), size=4)
        model.program = list(deeds)
        told: list[Any] = []
        with enable_automatic_parallel_stepping(model, mode, max_rounds=rounds):
            for _ in range(3):
                within_deadline(model.step)
                conserved(model)
                told.append((mail_statistics(model), dead_letters(model)))
        deliver(model, max_rounds=1000)
        assert mail_statistics(model).queued == 0
        conserved(model)
        return told, digest(model)

    assert stepped_with(mode, oracle) == stepped_with("sequential", Oracle())


def test_what_waits_is_saved_copied_and_gone_on_with() -> None:
    model, (first, second) = market(2)
    sent = post(first, second, note("keep me"))
    gone: Any = Deaf(model)
    post(gone, second, note("from who is gone"))
    gone.remove()
    del model.oracle  # has a lock
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        deliver(twin)
        _, other = twin.agents
        assert [body for body, *_ in other.log] == ["keep me", "from who is gone"]
        assert post(other, other, note("")).id.endswith(".3")
    assert mail_statistics(model).queued == 2
    assert sent.id == "0.1.1"


# --- Speaking ------------------------------------------------------------------------------------


def test_what_is_spoken_is_in_the_listeners_memory_from_its_next_look_on() -> None:
    seen: list[list[bool]] = []

    class Talker(LLMAgent):
        def step(self) -> None:
            heard = []
            for _ in range(3):
                obs = self.generate_obs()
                heard.append("Hello" in str(self.memory.get_prompt_ready()))
                self.reasoning.plan(prompt="talk", obs=obs)
                if self.unique_id == 1 and len(heard) == 2:
                    self.send_message("Hello", [self.model.agents[1]])
            seen.append(heard)

    class Town(mesa.Model):
        def step(self) -> None:
            self.agents.do("step")

    model = Town(rng=1)
    for _ in range(2):
        Talker(model, CoTReasoning, lambda _: "fine", vision=-1)
    with enable_automatic_parallel_stepping(model, on_error="raise"):
        model.step()
        model.step()
    # The first one speaks in round 3, which is over before the second one's third look.
    assert seen == [[False] * 3, [False, False, False], [False] * 3, [True, True, True]]


# --- What cannot be ------------------------------------------------------------------------------


def test_messages_do_not_leave_the_model_and_are_messages() -> None:
    _, (first, _) = market(2)
    _, (stranger, _) = market(2)
    with pytest.raises(UsageError, match="not in the same model"):
        post(first, stranger, note(""))
    with pytest.raises(UsageError, match="'Hello' is no message"):
        post(first, first, "Hello")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="its sender is None"):
        reply(first, note(""), "Hello")


def test_nothing_is_sent_while_planning() -> None:
    class Hasty(OneQuestion):
        def flow(self, task: Any) -> Any:
            for send in (post, ask):
                with pytest.raises(UsageError, match="while it plans"):
                    send(self.agent, self.agent, note(""))
            return (yield from super().flow(task))

    model, (first,) = market(1)
    first.act = lambda self: Hasty(self).plan("")
    stepped(model)
    assert mail_statistics(model).sent == 0


def test_a_coroutine_is_told_to_await_its_answer() -> None:
    class Wrong(Trader):
        async def astep(self) -> None:
            ask(self, self, note(""))

    model, _ = market(1)
    Wrong(model)
    report = ParallelStepping(model).do(model.agents, "step")
    assert [each.error.partition(" Write")[2] for each in report.failures] == [": await aask(…)."]


def test_an_answer_must_be_something_that_can_be_sent() -> None:
    class Wrong(Trader):
        def echo(self, message: Message) -> Any:
            return 4

    model, (first,) = market(1)
    wrong = Wrong(model)
    with pytest.raises(HandlerError, match="echo of Wrong 2 returned int"):
        ask(first, wrong, Message(method="echo"))


@pytest.mark.parametrize("bad", [0, -1, True, 1.5])
def test_rounds_are_a_number_of_rounds(bad: Any) -> None:
    model, (first, second) = market(2)
    with pytest.raises(UsageError, match="timeout_rounds="):
        ask(first, second, note(""), timeout_rounds=bad)
    with pytest.raises(UsageError, match="max_rounds="):
        deliver(model, max_rounds=bad)
    assert mail_statistics(model).sent == 0


def test_within_an_activation_there_is_nothing_to_deliver_by_hand() -> None:
    model, (first,) = market(1)
    first.act = lambda self: deliver(self.model)
    report = ParallelStepping(model).do(model.agents, "step")
    assert "UsageError: deliver() was called within an activation" in report.failures[0].error


def test_nothing_of_ours_is_on_a_model_that_sends_nothing() -> None:
    model, _ = market(2)
    before = set(vars(model))
    stepped(model)
    deliver(model)
    assert (dead_letters(model), mail_statistics(model).sent, set(vars(model))) == ([], 0, before)
