"""`collect`: handlers called by a test, without a runtime."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import Field

from llm_net import GenAgent, GenNetwork, Message, Role, UsageError
from llm_net.testing import collect


class Clerk(GenAgent):
    """Says all that an agent can say."""

    seen: list[str] = Field(default_factory=list)

    def step(self, message: Message) -> str:
        self.send(Message("a letter", receiver="bob", method="post"))
        self.emit("news", "a headline")
        self.emit("news", Message("a whole message", method="own"))
        return message.body.upper()

    def wonder(self, message: Message) -> str:
        answer = self.ask("oracle", message.body)
        self.seen.append("nothing" if answer is None else answer.body)
        return self.seen[-1]

    def later(self, message: Message) -> Any:
        return self.schedule(5, "wake up", every=2)

    async def atalk(self, message: Message) -> str:
        await self.asend(Message("a letter", receiver="bob"))
        await self.aemit("news", "a headline")
        answer = await self.aask("oracle", Message("why?", method="riddle"))
        return "" if answer is None else answer.body


def test_what_a_handler_sends_and_emits_is_collected_in_order_and_goes_nowhere() -> None:
    clerk = Clerk()
    heard: list[Message] = []
    clerk.on("news", heard.append)
    with collect(clerk) as said:
        assert clerk.step(Message("x")) == "X"
    assert [(m.method, m.body, str(m.receiver)) for m in said.sent] == [("post", "a letter", "bob")]
    assert [(event, m.method, m.body) for event, m in said.emitted] == [
        ("news", "news", "a headline"),
        ("news", "own", "a whole message"),
    ]
    assert said.asked == []
    assert said.scheduled == []
    assert heard == []


def test_collected_messages_bear_the_agents_address_and_role() -> None:
    network = GenNetwork(name="firm", agents=[Clerk(role=Role.SYSTEM)])
    clerk = network["clerk"]
    with collect(clerk) as said:
        clerk.step(Message("x"))
    messages = [*said.sent, *(message for _, message in said.emitted)]
    assert {str(message.sender) for message in messages} == {"firm/clerk"}
    assert said.emitted[0][1].role is Role.SYSTEM


def test_a_sender_that_a_message_bears_already_stays() -> None:
    clerk = Clerk()
    with collect(clerk) as said:
        clerk.send(Message("x", sender="somebody", receiver="bob"))
    assert said.sent[0].sender == "somebody"


def test_a_bare_text_that_is_sent_is_a_step() -> None:
    clerk = Clerk()
    with collect(clerk) as said:
        clerk.send("x")
    assert [(m.body, m.method, m.receiver) for m in said.sent] == [("x", "step", None)]


def test_asks_get_the_given_answers_one_after_the_other() -> None:
    clerk = Clerk()
    with collect(clerk, answers=["yes", Message("a whole message"), None]) as said:
        for question in ("one", "two", "three"):
            clerk.wonder(Message(question))
    assert clerk.seen == ["yes", "a whole message", "nothing"]
    assert [(receiver, message.body) for receiver, message in said.asked] == [
        ("oracle", "one"),
        ("oracle", "two"),
        ("oracle", "three"),
    ]


def test_an_answer_that_is_a_text_is_a_reply_to_what_was_asked() -> None:
    clerk = Clerk()
    question = Message("why?")
    with collect(clerk, answers=["because"]) as said:
        answer = clerk.ask("oracle", question)
    assert answer is not None
    assert answer.method == "response"
    assert answer.reply_to_id == said.asked[0][1].id == question.id
    assert [m.body for m in answer.thread] == ["why?", "because"]


def test_an_ask_without_an_answer_says_which_and_what_to_write() -> None:
    clerk = Clerk()
    with collect(clerk, answers=["only one"]) as said:
        clerk.wonder(Message("one"))
        with pytest.raises(UsageError) as caught:
            clerk.wonder(Message("two"))
    for text in ("oracle", "two", "answers="):
        assert text in str(caught.value)
    assert len(said.asked) == 2


def test_answers_may_come_from_a_generator_and_are_taken_one_by_one() -> None:
    taken: list[int] = []

    def answers() -> Any:
        for n in range(9):
            taken.append(n)
            yield str(n)

    clerk = Clerk()
    with collect(clerk, answers=answers()):
        clerk.wonder(Message("one"))
        clerk.wonder(Message("two"))
    assert taken == [0, 1]
    assert clerk.seen == ["0", "1"]


def test_async_handlers_are_collected_too() -> None:
    clerk = Clerk()
    with collect(clerk, answers=["a riddle's answer"]) as said:
        assert asyncio.run(clerk.atalk(Message("x"))) == "a riddle's answer"
    assert [m.body for m in said.sent] == ["a letter"]
    assert [event for event, _ in said.emitted] == ["news"]
    assert [(receiver, m.method) for receiver, m in said.asked] == [("oracle", "riddle")]


def test_timers_are_collected_and_fire_never() -> None:
    clerk = Clerk()
    with collect(clerk) as said:
        timer = clerk.later(Message("x"))
        clerk.schedule(0, "at once")
        timer.cancel()
        timer.cancel()
    assert [(delay, m.body, every) for delay, m, every in said.scheduled] == [
        (5, "wake up", 2),
        (0, "at once", None),
    ]
    assert said.sent == []
    with collect(clerk), pytest.raises(UsageError, match="delay=-1"):
        clerk.schedule(-1, "x")


def test_what_cannot_be_sent_is_refused_as_by_a_live_agent() -> None:
    clerk = Clerk()
    wrong: Any = 5
    with collect(clerk) as said:
        for say in (
            lambda: clerk.send(wrong),
            lambda: clerk.emit("news", wrong),
            lambda: clerk.ask("oracle", wrong),
            lambda: clerk.schedule(1, wrong),
        ):
            with pytest.raises(UsageError, match="5"):
                say()
    assert (said.sent, said.emitted, said.asked, said.scheduled) == ([], [], [], [])


def test_an_agent_collects_only_within_the_with_even_if_the_test_raises() -> None:
    clerk = Clerk()
    with pytest.raises(ZeroDivisionError), collect(clerk):
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="not live"):
        clerk.send("x")
    with collect(clerk) as first:
        clerk.send("1")
    with collect(clerk) as second:
        clerk.send("2")
    assert [m.body for m in first.sent] == ["1"]
    assert [m.body for m in second.sent] == ["2"]


def test_a_live_agent_is_refused_and_says_which() -> None:
    clerk = Clerk(name="carl")
    with clerk.start(), pytest.raises(UsageError, match="'carl' is live"), collect(clerk):
        pytest.fail("a live agent was collected")
    with collect(clerk) as said:
        clerk.send("x")
    assert len(said.sent) == 1


def test_two_agents_are_collected_side_by_side() -> None:
    ann, bob = Clerk(name="ann"), Clerk(name="bob")
    with collect(ann) as by_ann, collect(bob) as by_bob:
        ann.send("a")
        bob.send("b")
    assert [m.body for m in by_ann.sent] == ["a"]
    assert [m.body for m in by_bob.sent] == ["b"]


def test_an_inner_collect_of_the_same_agent_gives_back_to_the_outer() -> None:
    clerk = Clerk()
    with collect(clerk) as outer:
        clerk.send("1")
        with collect(clerk) as inner:
            clerk.send("2")
        clerk.send("3")
    assert [m.body for m in outer.sent] == ["1", "3"]
    assert [m.body for m in inner.sent] == ["2"]


def test_a_network_is_collected_as_an_agent() -> None:
    network = GenNetwork(name="firm", agents=[Clerk()])
    with collect(network) as said:
        network.emit("news", "x")
    assert [(event, str(m.sender)) for event, m in said.emitted] == [("news", "firm")]


def test_collecting_starts_nothing() -> None:
    before = threading.enumerate()
    clerk = Clerk()
    with collect(clerk, answers=["yes"]):
        clerk.wonder(Message("x"))
        assert threading.enumerate() == before
    with pytest.raises(UsageError):
        _ = clerk.ref
