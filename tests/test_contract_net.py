"""The contract net: who gets the task, what each of them hears, and that it always ends."""

from __future__ import annotations

import asyncio
import math
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from llm_net import (
    AgentStopped,
    DeadLetter,
    GenAgent,
    GenNetwork,
    HandlerError,
    Instrument,
    LLMNetError,
    Message,
    NoHandler,
    ProtocolError,
    Run,
    Runtime,
    Supervision,
    UnknownAgent,
    UsageError,
)
from llm_net.protocols import (
    AcceptProposal,
    Cancel,
    Cfp,
    ContractNet,
    Failure,
    Inform,
    NotUnderstood,
    Outcome,
    Propose,
    Refuse,
    RejectProposal,
)
from tests.waiting import DEADLINE_S, within_deadline

T = TypeVar("T")
HostName = Literal["thread", "inline"]
HOSTS: list[HostName] = ["inline", "thread"]

SOON = 0.02
"""A deadline that is to pass; timers of one loop fire in order, however busy the machine is."""

LATER = 0.03
"""After SOON."""

LONG = 30.0
"""A deadline that is not to pass."""


def ours() -> list[threading.Thread]:
    """The runtime's threads; those of models and of stepping serve the process, and stay."""
    threads = [t for t in threading.enumerate() if t.name.startswith("llm_net-")]
    return [t for t in threads if not t.name.startswith(("llm_net-models", "llm_net-stepping"))]


class Hearing(GenAgent):
    """Writes down what it is told besides calls."""

    blocking: ClassVar[bool] = False
    heard: list[str] = Field(default_factory=list)
    said: list[str] = Field(default_factory=list)

    def note(self, message: Message | None) -> None:
        if message is not None:
            self.heard.append(message.method)
            self.said.append(message.body)

    def reject_proposal(self, message: RejectProposal) -> None:
        self.note(message)

    def not_understood(self, message: NotUnderstood) -> None:
        self.note(message)

    def cancel(self, message: Cancel) -> None:
        self.note(message)


class Honest(Hearing):
    price: float = 10

    def cfp(self, message: Cfp) -> Any:
        return Propose.reply(message, f"I am {self.name}", price=self.price)

    def accept_proposal(self, message: AcceptProposal) -> Any:
        self.note(message)
        return f"{self.name} did it"


class Refusing(Honest):
    def cfp(self, message: Cfp) -> Any:
        return Refuse.reply(message, "no time")


class Silent(Honest):
    """Never bids."""

    def cfp(self, message: Cfp) -> Any:
        return None


class Sleeping(Honest):
    """Would bid, but sleeps for ever."""

    async def acfp(self, message: Cfp) -> Any:
        await asyncio.sleep(3600)


class Late(Honest):
    async def acfp(self, message: Cfp) -> Any:
        await asyncio.sleep(LATER)
        return Propose.reply(message, price=self.price)


class Crashing(Honest):
    def cfp(self, message: Cfp) -> Any:
        raise RuntimeError("no pencil")


class Failing(Honest):
    """Bids, and says that it cannot do it."""

    def accept_proposal(self, message: AcceptProposal) -> Any:
        self.note(message)
        return Failure.reply(message, "out of wood")


class CrashingAtWork(Honest):
    def accept_proposal(self, message: AcceptProposal) -> Any:
        self.note(message)
        raise RuntimeError("broken saw")


class Duplicating(Honest):
    """Bids twice, the second time cheaper."""

    def cfp(self, message: Cfp) -> Any:
        yield Propose.reply(message, price=self.price)
        yield Propose.reply(message, price=self.price / 2)


class Rubbish(Honest):
    def cfp(self, message: Cfp) -> Any:
        return "hm"


class SilentAtWork(Honest):
    def accept_proposal(self, message: AcceptProposal) -> Any:
        self.note(message)


class SleepingAtWork(Honest):
    cancelled: bool = False

    async def aaccept_proposal(self, message: AcceptProposal) -> Any:
        self.note(message)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Withdrawing(Honest):
    """Bids, and takes it back at once."""

    def cfp(self, message: Cfp) -> Any:
        yield Propose.reply(message, price=self.price)
        yield Refuse.reply(message, "I thought again")


class Watch(Instrument):
    """Sees what dies."""

    def __init__(self) -> None:
        self.dropped: list[DeadLetter] = []

    def drop(self, letter: DeadLetter) -> None:
        self.dropped.append(letter)


def town(*agents: GenAgent, **options: Any) -> GenNetwork:
    return GenNetwork(name="town", agents=[GenAgent(name="manager"), *agents], **options)


def hold(
    network: GenNetwork, *, host: HostName = "inline", dead: int = 0, **options: Any
) -> Outcome:
    """Negotiate, and see that nothing is lost or left."""
    watch = Watch()
    runtime = Runtime(host, instruments=[watch])
    net = ContractNet(network, **{"initiator": "manager", "deadline": LONG, **options})
    outcome = within_deadline(lambda: net.run("Build a bench.", runtime=runtime))
    assert [letter.message.method for letter in watch.dropped] == ["accept_proposal"] * dead
    assert not ours()
    assert not net._open
    return outcome


# -- the way it should go


@pytest.mark.parametrize("host", HOSTS)
def test_the_lowest_price_wins_and_the_others_are_rejected(host: HostName) -> None:
    ann, bob, cem = Honest(name="ann", price=30), Honest(name="bob", price=20), Refusing(name="cem")
    outcome = hold(town(ann, bob, cem), host=host)
    assert outcome.status == "done"
    assert outcome.winner == "bob"
    assert isinstance(outcome.result, Inform)
    assert outcome.result.body == "bob did it"
    assert outcome.result.sender == "town/bob"
    assert ann.heard == ["reject_proposal"]
    assert bob.heard == ["accept_proposal"]
    assert cem.heard == []
    assert {name: bid.price for name, bid in outcome.proposals.items()} == {"ann": 30, "bob": 20}
    refusal = outcome.refused["cem"]
    assert isinstance(refusal, Refuse)
    assert refusal.body == "no time"
    assert outcome.late == {}
    assert outcome.failed == {}


@pytest.mark.parametrize("host", HOSTS)
def test_of_equal_prices_the_one_that_came_first_wins(host: HostName) -> None:
    agents = [Honest(name=name, price=5) for name in ("ann", "bob", "cem")]
    assert hold(town(*agents), host=host).winner == "ann"


def test_messages_go_out_in_the_initiators_name_and_to_whom_they_are_for() -> None:
    outcome = hold(town(Honest(name="ann", price=1), Honest(name="bob", price=2)))
    seen = [(m.method, str(m.sender), str(to)) for m, to in outcome.conversation]
    assert sorted(seen) == sorted(
        [
            ("cfp", "town/manager", "town/ann"),
            ("cfp", "town/manager", "town/bob"),
            ("propose", "town/ann", "town/manager"),
            ("propose", "town/bob", "town/manager"),
            ("accept_proposal", "town/manager", "town/ann"),
            ("response", "town/ann", "town/manager"),
            ("reject_proposal", "town/manager", "town/bob"),
        ]
    )


def test_every_participant_gets_a_call_of_its_own_with_its_fields_and_answers_in_one_thread() -> (
    None
):
    class Tender(Cfp):
        method: str = "cfp"
        metres: int

    threads: list[list[str]] = []
    ids: list[str] = []

    class Fencer(Honest):
        def cfp(self, message: Cfp) -> Any:
            assert isinstance(message, Tender)
            ids.append(message.id)
            return Propose.reply(message, price=message.metres * self.price)

        def accept_proposal(self, message: AcceptProposal) -> Any:
            threads.append([earlier.method for earlier in message.thread])
            return Inform.reply(message, "fenced")

    network = town(Fencer(name="ann", price=2), Fencer(name="bob", price=3))
    outcome = within_deadline(
        lambda: ContractNet(network, initiator="manager").run(Tender("a fence", metres=7))
    )
    assert outcome.proposals["ann"].price == 14
    assert threads == [["cfp", "propose", "accept_proposal"]]
    assert len(set(ids)) == 2


def test_an_inform_is_the_result_as_it_is() -> None:
    class Report(Inform):
        hours: int

    class Worker(Honest):
        def accept_proposal(self, message: AcceptProposal) -> Any:
            return Report.reply(message, "done", hours=3)

    outcome = hold(town(Worker(name="ann")))
    assert isinstance(outcome.result, Report)
    assert outcome.result.hours == 3


# -- nobody to take it


@pytest.mark.parametrize("host", HOSTS)
def test_without_contractors_there_are_no_bids_at_once(host: HostName) -> None:
    outcome = hold(town(), host=host)
    assert outcome.status == "no_bids"
    assert outcome.winner is None
    assert outcome.result is None
    assert outcome.conversation == ()


@pytest.mark.parametrize("host", HOSTS)
def test_if_all_refuse_there_are_no_bids_before_the_deadline(host: HostName) -> None:
    outcome = hold(town(Refusing(name="ann"), Refusing(name="bob")), host=host)
    assert outcome.status == "no_bids"
    assert set(outcome.refused) == {"ann", "bob"}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Silent, Sleeping])
def test_a_silent_bidder_is_waited_for_until_the_deadline_and_refused_with_none(
    kind: type[Honest], host: HostName
) -> None:
    outcome = hold(town(kind(name="ann"), Honest(name="bob")), host=host, deadline=SOON)
    assert outcome.winner == "bob"
    assert outcome.refused == {"ann": None}


@pytest.mark.parametrize("host", HOSTS)
def test_if_all_are_silent_there_are_no_bids(host: HostName) -> None:
    outcome = hold(town(Silent(name="ann"), Sleeping(name="bob")), host=host, deadline=SOON)
    assert outcome.status == "no_bids"
    assert outcome.refused == {"ann": None, "bob": None}


# -- late


@pytest.mark.parametrize("host", HOSTS)
def test_a_late_bid_stands_in_late_is_rejected_and_changes_nothing(host: HostName) -> None:
    ann, bob = Late(name="ann", price=1), Honest(name="bob", price=100)
    outcome = hold(town(ann, bob), host=host, deadline=SOON, grace=LONG)
    assert outcome.winner == "bob"
    assert outcome.late["ann"].price == 1
    assert set(outcome.proposals) == {"bob"}
    assert outcome.refused == {}
    assert ann.heard == ["reject_proposal"]
    assert ann.said == ["late"]


def test_where_all_bids_are_late_there_are_none() -> None:
    ann = Late(name="ann")
    outcome = hold(town(ann), deadline=SOON, grace=LONG)
    assert outcome.status == "no_bids"
    assert set(outcome.late) == {"ann"}
    assert ann.heard == ["reject_proposal"]


def test_a_bid_that_is_late_while_another_is_at_work_is_rejected_too() -> None:
    gate = asyncio.Event()

    class Worker(Honest):
        async def aaccept_proposal(self, message: AcceptProposal) -> Any:
            gate.set()
            await asyncio.sleep(SOON)
            return "done"

    class AfterTheAward(Honest):
        async def acfp(self, message: Cfp) -> Any:
            await gate.wait()
            return Propose.reply(message, price=0)

    bob = AfterTheAward(name="bob")
    outcome = hold(town(Worker(name="ann"), bob), deadline=SOON)
    assert outcome.winner == "ann"
    assert set(outcome.late) == {"bob"}
    assert bob.heard == ["reject_proposal"]


def test_who_is_still_at_its_answer_after_the_grace_is_let_go() -> None:
    outcome = hold(town(Sleeping(name="ann"), Honest(name="bob")), deadline=SOON, grace=SOON)
    assert outcome.winner == "bob"
    assert outcome.late == {}
    assert outcome.refused == {"ann": None}


def test_a_refusal_that_is_late_changes_nothing() -> None:
    class LateRefusal(Honest):
        async def acfp(self, message: Cfp) -> Any:
            await asyncio.sleep(LATER)
            return Refuse.reply(message, "no")

    outcome = hold(town(LateRefusal(name="ann"), Honest(name="bob")), deadline=SOON, grace=LONG)
    assert outcome.winner == "bob"
    assert outcome.late == {}
    assert set(outcome.refused) == {"ann"}


# -- answers that are out of order


@pytest.mark.parametrize("host", HOSTS)
def test_of_two_bids_the_first_counts_and_the_second_is_not_understood(host: HostName) -> None:
    ann, bob = Duplicating(name="ann", price=10), Honest(name="bob", price=7)
    outcome = hold(town(ann, bob), host=host)
    assert outcome.winner == "bob"  # ann's second bid of 5 does not count
    assert outcome.proposals["ann"].price == 10
    assert ann.heard == ["not_understood", "reject_proposal"]


def test_a_second_bid_of_the_one_that_is_awarded_it_already_does_not_cost_it_the_award() -> None:
    # Its first bid closes the call, so the second comes when the award is out.
    outcome = hold(town(Duplicating(name="ann")))
    assert outcome.status == "done"
    assert outcome.winner == "ann"
    assert outcome.proposals["ann"].price == 10
    assert outcome.failed == {}


@pytest.mark.parametrize("more", ["a text", Inform("done already")])
def test_what_follows_a_bid_in_the_same_turn_is_not_taken_for_the_work(
    more: str | Inform,
) -> None:
    class Talkative(Honest):
        def cfp(self, message: Cfp) -> Any:
            yield Propose.reply(message, price=1)
            yield more if isinstance(more, str) else Inform.reply(message, more.body)

    outcome = hold(town(Talkative(name="ann")))
    assert outcome.status == "done"
    assert outcome.result is not None
    assert outcome.result.body == "ann did it"


def test_an_error_after_the_bid_leaves_the_bid_standing_before_and_after_the_award() -> None:
    class Shaky(Honest):
        def cfp(self, message: Cfp) -> Any:
            yield Propose.reply(message, price=self.price)
            raise RuntimeError("after the bid")

    # ann's turn is over before the award, cem's after it: cem's bid is the last.
    before = hold(town(Shaky(name="ann", price=1), Honest(name="bob", price=2)))
    assert before.winner == "ann"
    after = hold(town(Honest(name="bob", price=2), Shaky(name="cem", price=1)))
    assert after.winner == "cem"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    "answer",
    [
        "a text",
        lambda call: Inform.reply(call, "done"),
        lambda call: Message("x", method="hello", reply_to=call, receiver=call.sender),
        AcceptProposal.reply,
    ],
    ids=["text", "inform", "other", "accept"],
)
def test_another_answer_than_propose_or_refuse_is_not_understood(
    answer: Any, host: HostName
) -> None:
    class Odd(Honest):
        def cfp(self, message: Cfp) -> Any:
            return answer if isinstance(answer, str) else answer(message)

    ann = Odd(name="ann")
    outcome = hold(town(ann, Honest(name="bob")), host=host)
    assert outcome.winner == "bob"
    assert isinstance(outcome.refused["ann"], Message)
    assert ann.heard == ["not_understood"]
    assert "propose or refuse" in ann.said[0]


@pytest.mark.parametrize("kind", [NotUnderstood, Failure])
def test_who_does_not_understand_or_fails_to_bid_is_refused_and_hears_nothing(
    kind: type[Message],
) -> None:
    class Puzzled(Honest):
        def cfp(self, message: Cfp) -> Any:
            return kind.reply(message, "what?")

    ann = Puzzled(name="ann")
    outcome = hold(town(ann, Honest(name="bob")))
    assert type(outcome.refused["ann"]) is kind
    assert ann.heard == []


@pytest.mark.parametrize("price", [math.nan, math.inf, "a lot", None])
def test_a_bid_whose_price_is_no_number_is_an_error_of_its_bidder(price: Any) -> None:
    outcome = hold(town(Honest.model_construct(name="ann", price=price), Honest(name="bob")))
    assert outcome.winner == "bob"
    error = outcome.refused["ann"]
    assert isinstance(error, HandlerError)
    assert isinstance(error.__cause__, ValidationError)
    with pytest.raises(ValidationError):
        Propose(price=price)


def test_an_answer_to_the_award_that_means_nothing_there_fails_it() -> None:
    class Haggling(Honest):
        def accept_proposal(self, message: AcceptProposal) -> Any:
            self.note(message)
            return Propose.reply(message, price=99)

    ann = Haggling(name="ann", price=1)
    outcome = hold(town(ann, Honest(name="bob")))
    assert outcome.winner == "bob"
    assert isinstance(outcome.failed["ann"], Propose)
    assert ann.heard == ["accept_proposal", "not_understood"]


def test_a_participant_without_handlers_for_last_words_hears_none() -> None:
    class Plain(GenAgent):
        blocking: ClassVar[bool] = False
        price: float = 1

        def cfp(self, message: Cfp) -> Any:
            yield Propose.reply(message, price=self.price)
            yield Propose.reply(message, price=self.price)

        def accept_proposal(self, message: AcceptProposal) -> Any:
            return "done"

    outcome = hold(town(Plain(name="ann", price=2), Plain(name="bob"), Rubbish(name="cem")))
    assert outcome.winner == "bob"


def test_a_participant_without_a_handler_for_the_award_fails_it() -> None:
    class Bidder(Hearing):
        def cfp(self, message: Cfp) -> Any:
            return Propose.reply(message, price=1)

    outcome = hold(town(Bidder(name="ann"), Honest(name="bob")), dead=1)
    assert outcome.winner == "bob"
    assert isinstance(outcome.failed["ann"], NoHandler)


# -- withdrawal


def test_a_bid_withdrawn_before_the_award_is_none() -> None:
    ann = Withdrawing(name="ann", price=1)
    outcome = hold(town(ann, Honest(name="bob", price=2)))
    assert outcome.winner == "bob"
    assert isinstance(outcome.refused["ann"], Refuse)
    assert set(outcome.proposals) == {"bob"}
    assert ann.heard == []


def test_a_withdrawal_that_comes_when_the_award_is_out_fails_it() -> None:
    outcome = hold(town(Honest(name="bob", price=2), Withdrawing(name="cem", price=1)))
    assert outcome.winner == "bob"
    assert isinstance(outcome.failed["cem"], Refuse)


@pytest.mark.parametrize("kind", [Refuse, Failure])
def test_who_refuses_after_the_award_gives_way_to_the_next_best(kind: type[Message]) -> None:
    class Unwilling(Honest):
        def accept_proposal(self, message: AcceptProposal) -> Any:
            return kind.reply(message, "no more")

    outcome = hold(town(Unwilling(name="ann", price=1), Honest(name="bob", price=2)))
    assert outcome.winner == "bob"
    assert type(outcome.failed["ann"]) is kind


def test_who_withdraws_while_another_is_at_work_is_no_next_best() -> None:
    working = asyncio.Event()
    withdrawn = asyncio.Event()

    class Doomed(Honest):
        async def aaccept_proposal(self, message: AcceptProposal) -> Any:
            working.set()
            await withdrawn.wait()
            return Failure.reply(message, "no")

    class Fickle(Honest):
        calls: list[Cfp] = Field(default_factory=list)

        async def acfp(self, message: Cfp) -> Any:
            yield Propose.reply(message, price=self.price)
            await working.wait()
            yield Refuse.reply(message, "too late for me")
            withdrawn.set()

    fickle = Fickle(name="bob", price=2)
    outcome = hold(town(Doomed(name="ann", price=1), fickle, Honest(name="cem", price=3)))
    assert outcome.winner == "cem"
    assert "accept_proposal" not in fickle.heard
    assert isinstance(outcome.refused["bob"], Refuse)


# -- failures after the award


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Failing, CrashingAtWork])
def test_after_a_failure_the_next_best_is_awarded(kind: type[Honest], host: HostName) -> None:
    ann = kind(name="ann", price=1)
    bob, cem = Honest(name="bob", price=2), Honest(name="cem", price=3)
    outcome = hold(town(cem, ann, bob), host=host)
    assert outcome.status == "done"
    assert outcome.winner == "bob"
    assert set(outcome.failed) == {"ann"}
    assert set(outcome.proposals) == {"ann", "bob", "cem"}
    assert (ann.heard, bob.heard, cem.heard) == (
        ["accept_proposal"],
        ["accept_proposal"],
        ["reject_proposal"],
    )


@pytest.mark.parametrize("host", HOSTS)
def test_a_winner_whose_handler_raises_has_its_error_in_failed(host: HostName) -> None:
    outcome = hold(town(CrashingAtWork(name="ann")), host=host)
    assert outcome.status == "failed"
    error = outcome.failed["ann"]
    assert isinstance(error, HandlerError)
    assert str(error.__cause__) == "broken saw"
    assert outcome.winner is None


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [SilentAtWork, SleepingAtWork])
def test_a_silent_winner_is_cancelled_and_the_next_best_awarded(
    kind: type[Honest], host: HostName
) -> None:
    ann, bob = kind(name="ann", price=1), Honest(name="bob", price=2)
    outcome = hold(town(ann, bob), host=host, result_deadline=SOON)
    assert outcome.status == "done"
    assert outcome.winner == "bob"
    assert outcome.failed == {"ann": None}
    assert ann.heard == ["accept_proposal", "cancel"]
    assert not isinstance(ann, SleepingAtWork) or ann.cancelled


@pytest.mark.parametrize("host", HOSTS)
def test_if_the_last_is_silent_the_task_has_expired(host: HostName) -> None:
    network = town(Failing(name="ann", price=1), SilentAtWork(name="bob", price=2))
    outcome = hold(network, host=host, result_deadline=SOON)
    assert outcome.status == "expired"
    assert set(outcome.failed) == {"ann", "bob"}
    assert outcome.winner is None


@pytest.mark.parametrize("host", HOSTS)
def test_if_everybody_fails_the_task_has_failed(host: HostName) -> None:
    network = town(
        SilentAtWork(name="ann", price=1),
        CrashingAtWork(name="bob", price=2),
        Failing(name="cem", price=3),
    )
    outcome = hold(network, host=host, result_deadline=SOON)
    assert outcome.status == "failed"
    assert list(outcome.failed) == ["ann", "bob", "cem"]
    assert outcome.result is None


def test_a_silent_winners_work_that_comes_after_all_changes_nothing() -> None:
    class Slow(Honest):
        async def aaccept_proposal(self, message: AcceptProposal) -> Any:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "after all"

    outcome = hold(
        town(Slow(name="ann", price=1), Honest(name="bob", price=2)), result_deadline=SOON
    )
    assert outcome.winner == "bob"
    assert outcome.result is not None
    assert outcome.result.body == "bob did it"


# -- crashes and stops


@pytest.mark.parametrize("host", HOSTS)
def test_who_crashes_at_the_call_is_refused_with_its_error_at_once(host: HostName) -> None:
    outcome = hold(town(Crashing(name="ann"), Honest(name="bob")), host=host)
    assert outcome.winner == "bob"
    error = outcome.refused["ann"]
    assert isinstance(error, HandlerError)
    assert str(error.__cause__) == "no pencil"


def test_who_is_stopped_at_its_answer_is_refused_at_once() -> None:
    class Killer(Honest):
        def cfp(self, message: Cfp) -> Any:
            assert self.network is not None
            self.network["ann"].stop(drain=False)
            return Propose.reply(message, price=5)

    outcome = hold(town(Sleeping(name="ann"), Killer(name="bob")))
    assert outcome.winner == "bob"
    assert isinstance(outcome.refused["ann"], AgentStopped)


def test_who_has_stopped_since_its_bid_gives_way_to_the_next_best() -> None:
    class Leaving(Honest):
        def cfp(self, message: Cfp) -> Any:
            self.stop()
            return Propose.reply(message, price=1)

    outcome = hold(town(Leaving(name="ann"), Honest(name="bob")), dead=1)
    assert outcome.winner == "bob"
    assert isinstance(outcome.failed["ann"], AgentStopped)


def test_last_words_to_who_has_stopped_are_not_lost() -> None:
    class Leaving(Honest):
        def cfp(self, message: Cfp) -> Any:
            self.stop()
            return Propose.reply(message, price=100)

    # Stopped, and gone or still stopping, when the others have answered.
    assert hold(town(Leaving(name="ann"), Honest(name="bob"))).winner == "bob"
    assert hold(town(Honest(name="bob"), Leaving(name="cem"))).winner == "bob"


@pytest.mark.parametrize("directive", ["resume", "restart", "stop"])
def test_a_failure_is_one_whatever_the_supervisor_does(directive: Any) -> None:
    network = town(
        CrashingAtWork(name="ann", price=1),
        Crashing(name="bob"),
        Honest(name="cem"),
        supervision=Supervision(directive=directive),
    )
    outcome = hold(network)
    assert outcome.winner == "cem"
    assert set(outcome.failed) == {"ann"}
    assert set(outcome.refused) == {"bob"}


@pytest.mark.parametrize("kind", [Crashing, CrashingAtWork])
def test_a_failure_past_the_outermost_network_ends_it_with_an_outcome(kind: type[Honest]) -> None:
    network = town(
        kind(name="ann", price=1),
        Sleeping(name="bob"),
        supervision=Supervision(directive="escalate"),
    )
    net = ContractNet(network, initiator="manager", deadline=SOON)
    outcome = within_deadline(lambda: net.run("x"))
    assert outcome.winner is None
    assert outcome.status != "done"
    assert not ours()


def test_a_bidder_stuck_on_a_thread_holds_nobody_up() -> None:
    gate = threading.Event()

    class Stuck(Honest):
        blocking: ClassVar[bool] = True

        def cfp(self, message: Cfp) -> Any:
            gate.wait(DEADLINE_S * 3)
            return Propose.reply(message, price=0)

    network = town(Stuck(name="ann"), Honest(name="bob"))
    net = ContractNet(network, initiator="manager", deadline=SOON)
    try:
        outcome = within_deadline(lambda: net.run("x"))
    finally:
        gate.set()
    assert outcome.winner == "bob"
    assert outcome.refused == {"ann": None}
    for thread in ours():
        thread.join(DEADLINE_S)
    assert not ours()


def test_a_winner_stuck_on_a_thread_gives_way_to_the_next_best() -> None:
    gate = threading.Event()

    class Stuck(Honest):
        blocking: ClassVar[bool] = True

        def accept_proposal(self, message: AcceptProposal) -> Any:
            gate.wait(DEADLINE_S * 3)
            return "too late"

    network = town(Stuck(name="ann", price=1), Honest(name="bob"))
    net = ContractNet(network, initiator="manager", deadline=LONG, result_deadline=SOON)
    try:
        outcome = within_deadline(lambda: net.run("x"))
    finally:
        gate.set()
    assert outcome.winner == "bob"
    assert outcome.failed == {"ann": None}
    for thread in ours():
        thread.join(DEADLINE_S)
    assert not ours()


@pytest.mark.parametrize("host", HOSTS)
def test_blocking_contractors_bid_and_work_on_threads(host: HostName) -> None:
    class Blocking(Honest):
        blocking: ClassVar[bool] = True

    outcome = hold(town(*(Blocking(name=f"c{n}", price=9 - n) for n in range(5))), host=host)
    assert outcome.winner == "c4"
    assert len(outcome.proposals) == 5


# -- bids and results that come as messages of their own


@pytest.mark.parametrize("host", HOSTS)
def test_a_bid_and_a_result_may_come_later_as_messages_of_their_own(host: HostName) -> None:
    class Slow(Honest):
        calls: list[Message] = Field(default_factory=list)

        def cfp(self, message: Cfp) -> Any:
            self.calls.append(message)
            self.schedule(0.001, Message(method="think"))

        def think(self, message: Message) -> None:
            self.send(Propose.reply(self.calls[-1], price=1))

        def accept_proposal(self, message: AcceptProposal) -> Any:
            self.calls.append(message)
            self.schedule(0.001, Message(method="work"))

        def work(self, message: Message) -> None:
            self.send(Inform.reply(self.calls[-1], "slowly done"))

    outcome = hold(town(Slow(name="ann"), Honest(name="bob")), host=host)
    assert outcome.winner == "ann"
    assert outcome.result is not None
    assert outcome.result.body == "slowly done"


def test_a_bid_that_comes_later_than_the_deadline_as_a_message_of_its_own_is_late() -> None:
    class Slow(Honest):
        calls: list[Message] = Field(default_factory=list)

        def cfp(self, message: Cfp) -> Any:
            self.calls.append(message)
            self.schedule(LATER, Message(method="think"))

        def think(self, message: Message) -> None:
            self.send(Propose.reply(self.calls[-1], price=1))

    ann = Slow(name="ann")
    outcome = hold(town(ann, Honest(name="bob")), deadline=SOON, grace=LONG)
    assert outcome.winner == "bob"
    assert set(outcome.late) == {"ann"}
    assert ann.heard == ["reject_proposal"]


# -- cancelling


def held_at_work() -> tuple[SleepingAtWork, threading.Event]:
    entered = threading.Event()

    class AtWork(SleepingAtWork):
        async def aaccept_proposal(self, message: AcceptProposal) -> Any:
            entered.set()
            return await super().aaccept_proposal(message)

    return AtWork(name="ann", price=1), entered


@pytest.mark.parametrize("host", HOSTS)
def test_cancel_from_another_thread_ends_it_and_who_is_at_work_hears_of_it(host: HostName) -> None:
    ann, entered = held_at_work()
    bob = Honest(name="bob")
    watch = Watch()
    net = ContractNet(town(ann, bob), initiator="manager")

    def cancel() -> None:
        entered.wait(DEADLINE_S)
        net.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    runtime = Runtime(host, instruments=[watch])
    outcome = within_deadline(lambda: net.run("x", runtime=runtime))
    assert outcome.status == "cancelled"
    assert outcome.winner is None
    assert ann.cancelled
    assert ann.heard == ["accept_proposal", "cancel"]
    assert bob.heard == ["reject_proposal"]
    assert not watch.dropped
    assert not ours()


@pytest.mark.parametrize("host", HOSTS)
def test_cancel_during_the_call_rejects_the_bids_and_lets_the_others_go(host: HostName) -> None:
    entered = threading.Event()

    class Entering(Sleeping):
        async def acfp(self, message: Cfp) -> Any:
            entered.set()
            await super().acfp(message)

    bob = Honest(name="bob")
    net = ContractNet(town(bob, Entering(name="ann")), initiator="manager")

    def cancel() -> None:
        entered.wait(DEADLINE_S)
        net.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    outcome = within_deadline(lambda: net.run("x", runtime=Runtime(host)))
    assert outcome.status == "cancelled"
    assert bob.heard == ["reject_proposal"]
    assert not ours()


def test_cancel_from_a_handler_ends_it() -> None:
    nets: list[ContractNet] = []

    class Saboteur(Honest):
        def cfp(self, message: Cfp) -> Any:
            nets[0].cancel()
            return Propose.reply(message, price=0)

    network = town(Saboteur(name="ann"), Honest(name="bob"))
    nets.append(ContractNet(network, initiator="manager"))
    outcome = within_deadline(lambda: nets[0].run("x"))
    assert outcome.status == "cancelled"


def test_cancel_before_and_after_a_run_means_nothing() -> None:
    net = ContractNet(town(Honest(name="ann")), initiator="manager")
    net.cancel()
    assert within_deadline(lambda: net.run("x")).status == "done"
    net.cancel()
    assert within_deadline(lambda: net.run("y")).status == "done"


def test_a_cancelled_task_of_arun_leaves_nothing_running() -> None:
    async def main() -> SleepingAtWork:
        ann, entered = held_at_work()
        network = town(ann)
        task = asyncio.create_task(ContractNet(network, initiator="manager").arun("x"))
        await asyncio.to_thread(entered.wait, DEADLINE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not network.ref.is_alive()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return ann

    ann = within_deadline(lambda: asyncio.run(main()))
    assert ann.cancelled


def test_a_cancelled_task_of_arun_leaves_nothing_in_a_live_network() -> None:
    async def main() -> tuple[list[str], Any, Any]:
        late, done = asyncio.Event(), asyncio.Event()

        class Waiting(Honest):
            async def acfp(self, message: Cfp) -> Any:
                late.set()
                await asyncio.sleep(3600)

        bob = Honest(name="bob")
        network = town(bob, Waiting(name="ann"))
        async with network.astart():
            net = ContractNet(network, initiator="manager", deadline=SOON)
            task = asyncio.create_task(net.arun("x"))
            await late.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert network.ref.is_alive()
            cell = network["manager"].__node__().cell
            left = dict(cell.conversations), cell.engine.held
            # Past the deadline: the call must not be evaluated any more.
            asyncio.get_running_loop().call_later(LATER, done.set)
            await done.wait()
            assert bob.ref.is_alive()
        return bob.heard, *left

    heard, conversations, held = within_deadline(lambda: asyncio.run(main()))
    assert "accept_proposal" not in heard
    assert conversations == {}
    assert held == 0


# -- the award


def test_an_award_rule_of_ones_own_chooses_and_then_the_next_best() -> None:
    offered: list[list[float]] = []

    def dearest(bids: Sequence[Propose]) -> Propose | None:
        offered.append([bid.price for bid in bids])
        return max(bids, key=lambda bid: bid.price, default=None)

    network = town(
        Honest(name="ann", price=1), Failing(name="bob", price=3), Honest(name="cem", price=2)
    )
    outcome = hold(network, award=dearest)
    assert outcome.winner == "cem"
    assert offered == [[1, 3, 2], [1, 2]]


@pytest.mark.parametrize("host", HOSTS)
def test_an_award_of_none_rejects_all(host: HostName) -> None:
    ann, bob = Honest(name="ann"), Honest(name="bob")
    outcome = hold(town(ann, bob), host=host, award=lambda bids: None)
    assert outcome.status == "rejected_all"
    assert outcome.winner is None
    assert ann.heard == bob.heard == ["reject_proposal"]


def test_an_award_that_takes_none_of_those_left_fails_with_the_first() -> None:
    def only_cheap(bids: Sequence[Propose]) -> Propose | None:
        return next((bid for bid in bids if bid.price < 5), None)

    bob = Honest(name="bob", price=9)
    outcome = hold(town(Failing(name="ann", price=1), bob), award=only_cheap)
    assert outcome.status == "failed"
    assert bob.heard == ["reject_proposal"]


@pytest.mark.parametrize("host", HOSTS)
def test_an_award_that_raises_is_its_callers_error_and_all_are_rejected(host: HostName) -> None:
    def broken(bids: Sequence[Propose]) -> Propose | None:
        raise ZeroDivisionError("no rule")

    ann = Honest(name="ann")
    net = ContractNet(town(ann), initiator="manager", award=broken)
    with pytest.raises(ProtocolError, match="ZeroDivisionError: no rule") as caught:
        within_deadline(lambda: net.run("x", runtime=Runtime(host)))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert ann.heard == ["reject_proposal"]
    assert not ours()


@pytest.mark.parametrize("stranger", [Propose(price=0), "ann", 3])
def test_an_award_to_a_stranger_is_its_callers_error(stranger: Any) -> None:
    net = ContractNet(town(Honest(name="ann")), initiator="manager", award=lambda bids: stranger)
    with pytest.raises(ProtocolError, match="none of the proposals"):
        within_deadline(lambda: net.run("x"))
    assert not ours()


# -- who takes part


def guild(*members: GenAgent, name: str = "guild", entry: str = "head") -> GenNetwork:
    return GenNetwork(name=name, agents=members, entry=entry)


@pytest.mark.parametrize("host", HOSTS)
def test_a_contractor_that_is_a_network_bids_and_wins_under_the_networks_name(
    host: HostName,
) -> None:
    head = Honest(name="head", price=1)
    outcome = hold(town(guild(head, Honest(name="hidden", price=0)), Honest(name="ann")), host=host)
    assert outcome.winner == "guild"
    assert set(outcome.proposals) == {"guild", "ann"}
    assert outcome.result is not None
    assert outcome.result.body == "head did it"
    assert outcome.result.sender == "town/guild"
    assert head.heard == ["accept_proposal"]


def test_a_network_in_a_network_bids_and_one_without_a_handler_behind_its_entry_does_not() -> None:
    inner = guild(Honest(name="head", price=1), name="inner")
    outer = guild(inner, name="outer", entry="inner")
    idle = GenNetwork(name="idle", agents=[Honest(name="hidden", price=0)])
    outcome = hold(town(outer, idle))
    assert outcome.winner == "outer"
    assert set(outcome.proposals) == {"outer"}
    assert outcome.refused == {}


def test_a_network_with_several_entries_speaks_with_one_voice() -> None:
    heads = [Honest(name="left", price=3), Honest(name="right", price=1)]
    pair = GenNetwork(name="pair", agents=heads, entry=["left", "right"])
    outcome = hold(town(pair, Honest(name="ann", price=2)))
    assert outcome.status == "done"
    assert outcome.proposals["pair"].price == 3
    assert outcome.winner == "ann"


def test_members_without_a_cfp_handler_and_the_initiator_itself_do_not_take_part() -> None:
    boss = Honest(name="manager", price=0)
    network = GenNetwork(name="town", agents=[boss, Hearing(name="idle"), Honest(name="ann")])
    outcome = hold(network)
    assert set(outcome.proposals) == {"ann"}
    assert boss.heard == []


@pytest.mark.parametrize("how", ["name", "path", "agent", "address"])
def test_the_initiator_and_participants_may_be_given_in_any_way(how: str) -> None:
    network = town(Honest(name="ann", price=1), Honest(name="bob"), Honest(name="cem"))
    ways: dict[str, Callable[[str], Any]] = {
        "name": lambda name: name,
        "path": lambda name: f"town/{name}",
        "agent": lambda name: network[name],
        "address": lambda name: network[name].__address__(),
    }
    way = ways[how]
    outcome = hold(network, initiator=way("manager"), participants=[way("cem"), way("bob")])
    assert list(outcome.proposals) == ["cem", "bob"]
    assert outcome.winner == "cem"


def test_the_initiator_and_participants_may_be_references() -> None:
    network = town(Honest(name="ann"), Honest(name="bob"))
    with network.start():
        net = ContractNet(
            network, initiator=network["manager"].ref, participants=[network["bob"].ref]
        )
        assert within_deadline(lambda: net.run("x")).winner == "bob"


def test_a_participant_may_stand_deep_inside() -> None:
    network = town(guild(Honest(name="head"), Honest(name="hand", price=1)))
    outcome = hold(network, participants=["guild/hand"])
    assert outcome.winner == "hand"


def test_two_participants_of_one_name_in_different_networks_both_stand_in_the_outcome() -> None:
    left = guild(Honest(name="head", price=1), name="left")
    right = guild(Honest(name="head", price=2), name="right")
    outcome = hold(town(left, right), participants=["left/head", "right/head"])
    assert sorted(bid.price for bid in outcome.proposals.values()) == [1, 2]


def test_no_participants_are_nobody() -> None:
    assert hold(town(Honest(name="ann")), participants=[]).status == "no_bids"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"initiator": "boss"}, UnknownAgent, "boss"),
        ({"initiator": "manager", "participants": ["ann", "ghost"]}, UnknownAgent, "ghost"),
        ({"initiator": "manager", "participants": ["ann", "town/ann"]}, UsageError, "twice"),
        ({"initiator": "town"}, UsageError, "not an agent of the network 'town'"),
        ({"initiator": Honest(name="stray")}, UsageError, "stray"),
        ({"initiator": "manager", "participants": [Honest(name="stray")]}, UsageError, "stray"),
        ({"initiator": "manager", "deadline": 0}, UsageError, "deadline=0"),
        ({"initiator": "manager", "deadline": math.nan}, UsageError, "deadline=nan"),
        ({"initiator": "manager", "result_deadline": -1}, UsageError, "result_deadline=-1"),
        ({"initiator": "manager", "grace": 0}, UsageError, "grace=0"),
    ],
)
def test_wrong_rules_are_refused_before_anything_starts(
    options: dict[str, Any], error: type[LLMNetError], text: str
) -> None:
    network = town(Honest(name="ann"))
    with pytest.raises(error) as caught:
        ContractNet(network, **options)
    assert text in str(caught.value)
    with pytest.raises(UsageError):
        _ = network.ref


@pytest.mark.parametrize(
    "options",
    [
        {"deadline": None},
        {"deadline": "soon"},
        {"result_deadline": None},
        {"initiator": 5},
        {"participants": [None]},
        {"award": "cheapest"},
    ],
)
def test_rules_of_the_wrong_type_are_usage_errors_that_name_the_value(
    options: dict[str, Any],
) -> None:
    with pytest.raises(UsageError) as caught:
        ContractNet(town(Honest(name="ann")), **{"initiator": "manager", **options})
    value = next(iter(options.values()))
    assert str(value[0] if isinstance(value, list) else value) in str(caught.value)


# -- live networks


@pytest.mark.parametrize("host", HOSTS)
def test_a_live_network_is_neither_started_nor_stopped(host: HostName) -> None:
    network = town(Honest(name="ann"), Late(name="bob"))
    runtime = Runtime(host)
    net = ContractNet(network, initiator="manager", deadline=SOON, grace=LONG)

    def twice() -> None:
        with network.start(runtime=runtime) as ref:
            assert [net.run("x").status, net.run("y").status] == ["done", "done"]
            assert ref.is_alive()
            cell = network["manager"].__node__().cell
            assert cell is not None
            assert cell.conversations == {}
            assert cell.engine.held == 0
            counts = runtime.statistics()
            assert counts.dead == 0
            assert counts.sent == counts.delivered

    within_deadline(twice)
    assert network["ann"].heard == ["accept_proposal"] * 2


def test_two_negotiations_at_once_do_not_hear_each_other() -> None:
    async def main() -> list[Outcome]:
        class Turncoat(Honest):
            """Does the first task it is awarded, and not the second."""

            async def acfp(self, message: Cfp) -> Any:
                await asyncio.sleep(0)
                return Propose.reply(message, price=len(message.body))

            def accept_proposal(self, message: AcceptProposal) -> Any:
                return f"{self.name}: {message.thread[0].body}"

        network = town(Turncoat(name="ann"), Turncoat(name="bob"))
        async with network.astart():
            nets = [
                ContractNet(network, initiator=who, participants=[to], deadline=LONG)
                for who, to in (("manager", "ann"), ("manager", "bob"), ("ann", "bob"))
            ]
            tasks = ["a", "bb", "ccc"]
            both = ContractNet(network, initiator="manager")
            return await asyncio.gather(
                *(net.arun(task) for net, task in zip(nets, tasks, strict=True)),
                both.arun("dddd"),
                both.arun("eeeee"),
            )

    outcomes = within_deadline(lambda: asyncio.run(main()))
    assert [o.result.body for o in outcomes if o.result is not None] == [
        "ann: a",
        "bob: bb",
        "bob: ccc",
        "ann: dddd",
        "ann: eeeee",
    ]
    assert [len(o.proposals) for o in outcomes] == [1, 1, 1, 2, 2]


def test_a_live_network_that_is_stopped_under_a_negotiation_still_gives_an_outcome() -> None:
    ann, entered = held_at_work()
    network = town(ann, Honest(name="bob"))
    ref = network.start()

    def stop() -> None:
        entered.wait(DEADLINE_S)
        ref.stop(drain=False)

    threading.Thread(target=stop, daemon=True).start()
    outcome = within_deadline(
        lambda: ContractNet(network, initiator="manager", result_deadline=SOON).run("x")
    )
    assert outcome.status in {"failed", "expired", "cancelled"}
    assert outcome.winner is None


def test_arun_gives_the_outcome_on_the_running_loop_and_run_beside_it() -> None:
    async def main() -> tuple[Outcome, Outcome, Outcome]:
        def net() -> ContractNet:
            return ContractNet(town(Honest(name="ann")), initiator="manager")

        inline = await net().arun("x", runtime=Runtime("inline"))
        return await net().arun("x"), net().run("x"), inline

    for outcome in within_deadline(lambda: asyncio.run(main())):
        assert outcome.winner == "ann"
    assert not ours()


# -- stream


@pytest.mark.parametrize("host", HOSTS)
def test_a_stream_gives_every_message_when_it_is_sent_and_then_the_outcome(host: HostName) -> None:
    net = ContractNet(town(Honest(name="ann", price=1), Honest(name="bob")), initiator="manager")
    stream = net.stream("x", runtime=Runtime(host))
    with pytest.raises(UsageError):
        _ = stream.outcome
    methods = within_deadline(lambda: [message.method for message in stream])
    assert sorted(methods) == sorted(
        ["cfp", "cfp", "propose", "propose", "accept_proposal", "reject_proposal", "response"]
    )
    assert stream.outcome.winner == "ann"
    assert [id(m) for m, _ in stream.outcome.conversation] == [
        id(m) for m, _ in stream.run.conversation
    ]
    run: Run = stream.run
    assert run.ended == "idle"
    assert run.dead_letters == ()
    assert run.statistics.sent == run.statistics.delivered == 7
    assert not net._open
    assert not ours()


def test_a_stream_that_is_closed_early_has_no_outcome_and_can_be_cancelled_in_vain() -> None:
    ann = SleepingAtWork(name="ann")
    net = ContractNet(town(ann), initiator="manager")
    stream = net.stream("x")

    def read() -> None:
        for message in stream:
            if message.method == "accept_proposal":
                break
        stream.close()
        net.cancel()

    within_deadline(read)
    with pytest.raises(UsageError, match="closed"):
        _ = stream.outcome
    assert stream.run.ended == "closed"
    assert not ours()
    assert within_deadline(lambda: ContractNet(town(Honest()), initiator="manager").run("x"))


def test_a_stream_that_is_never_read_holds_nothing() -> None:
    net = ContractNet(town(Honest(name="ann")), initiator="manager")
    stream = net.stream("x")
    stream.close()
    net.cancel()
    with pytest.raises(UsageError):
        _ = stream.outcome
    assert not net._open


def test_a_stream_on_a_live_network_that_is_closed_early_leaves_nothing_there() -> None:
    ann = SleepingAtWork(name="ann")
    network = town(ann, Honest(name="bob", price=20))
    runtime = Runtime("inline")
    with network.start(runtime=runtime):
        net = ContractNet(network, initiator="manager", result_deadline=LONG)

        def read() -> None:
            stream = net.stream("x")
            next(message for message in stream if message.method == "accept_proposal")
            stream.close()

        within_deadline(read)
        cell = network["manager"].__node__().cell
        assert cell is not None
        assert cell.conversations == {}
        assert cell.engine.held == 0
        assert not net._open


# -- pictures


def test_an_outcome_is_drawn_as_mermaid_and_as_svg() -> None:
    outcome = hold(town(Honest(name="ann", price=1), Honest(name="b & <b>", price=2)))
    mermaid = outcome.to_mermaid()
    assert mermaid.splitlines()[0] == "sequenceDiagram"
    for word in ("cfp", "propose", "accept_proposal", "reject_proposal"):
        assert word in mermaid
    svg = outcome.to_svg()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "accept_proposal" in svg


def test_an_outcome_of_nothing_is_drawn_too() -> None:
    outcome = hold(town())
    assert outcome.to_mermaid().startswith("sequenceDiagram")
    assert ET.fromstring(outcome.to_svg()).tag.endswith("svg")


# -- any contractors at all

BIDDERS: list[type[Honest]] = [Honest, Failing, CrashingAtWork, Duplicating, SilentAtWork]
"""Those who bid in time, and stay with it."""
WORKERS: list[type[Honest]] = [Honest, Duplicating]
OTHERS: list[type[Honest]] = [Refusing, Silent, Sleeping, Late, Crashing, Rubbish]

contractors = st.lists(
    st.tuples(st.sampled_from([*BIDDERS, *OTHERS]), st.integers(0, 4)), max_size=6
)


@pytest.mark.parametrize("host", HOSTS)
@settings(max_examples=60)
@given(specs=contractors)
@example(specs=[(Duplicating, 0)])
@example(specs=[(kind, 0) for kind in [*BIDDERS, *OTHERS]])
@example(specs=[(kind, 4 - n % 5) for n, kind in enumerate([*OTHERS, *BIDDERS])])
def test_whoever_takes_part_there_is_one_outcome_and_nothing_is_lost_or_left(
    host: HostName, specs: list[tuple[type[Honest], int]]
) -> None:
    agents = {f"c{n}": kind(name=f"c{n}", price=price) for n, (kind, price) in enumerate(specs)}
    outcome = hold(
        town(*agents.values()),
        host=host,
        deadline=SOON,
        result_deadline=SOON,
        grace=0.05,
    )

    in_time = {name for name, agent in agents.items() if type(agent) in BIDDERS}
    assert set(outcome.proposals) == in_time
    assert (outcome.status == "no_bids") == (not in_time)

    can = {name: agents[name].price for name in in_time if type(agents[name]) in WORKERS}
    if can:
        assert outcome.status == "done"
        assert outcome.winner in can
        price = min(can.values())
        assert agents[outcome.winner].price == price
        cheaper = {name for name in in_time if agents[name].price < price}
        assert cheaper <= set(outcome.failed)
        assert all(agents[name].price <= price for name in outcome.failed)
        assert outcome.result is not None
        assert outcome.result.body == f"{outcome.winner} did it"
    else:
        assert outcome.status in {"no_bids", "failed", "expired"}
        assert outcome.winner is None
        assert outcome.result is None
        assert set(outcome.failed) == in_time
    assert outcome.winner not in outcome.failed

    # Each bidder hears one answer to its bid, and nobody else hears any.
    awarded = set(outcome.failed) | ({outcome.winner} if outcome.winner else set())
    for name, agent in agents.items():
        answers = [word for word in agent.heard if word != "not_understood"]
        if isinstance(agent, SilentAtWork) and name in awarded:
            assert answers == ["accept_proposal", "cancel"]
        elif name in awarded:
            assert answers == ["accept_proposal"]
        elif name in in_time or name in outcome.late:
            assert answers == ["reject_proposal"]
        else:
            assert answers == []

    # Everybody stands in one place only.
    late = {name for name, agent in agents.items() if isinstance(agent, Late)}
    assert set(outcome.late) | set(outcome.refused) == set(agents) - in_time
    assert not set(outcome.late) & set(outcome.refused)
    assert set(outcome.late) <= late

    # One award at a time: the next goes out when the one before has failed.
    live: set[str] = set()
    for message, receiver in outcome.conversation:
        if message.method == "accept_proposal":
            assert not live
            live = {str(receiver)} if type(agents[str(receiver)[5:]]) in WORKERS else set()
    assert len(live) == (1 if outcome.status == "done" else 0)
