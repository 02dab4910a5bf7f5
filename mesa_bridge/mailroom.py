"""Messages between Mesa agents: post, reply, ask.

Bridge, floor 5. Any Mesa agent can send to any other of its model. In an activation (parallel
stepping, or `deliver`) a message is handed out at the end of the round in which it was posted, and
handled in the next; so a conversation takes place within one step, and is the same whatever the
mode and however long models take. Where agents are stepped by plain Mesa there are no rounds: what
is only to be remembered is remembered at once, and what has a handler waits for `deliver`, for an
ask, or for the next activation.
"""

from __future__ import annotations

import asyncio
from typing import Any

import mesa

from llm_net.errors import UsageError
from llm_net.mailbox import DeadLetter
from llm_net.message import Message
from llm_net.reasoning.gate import GATE
from mesa_bridge import versions
from mesa_bridge.activation import Activation
from mesa_bridge.asked import Asked
from mesa_bridge.gate import LoopTurn, Turn
from mesa_bridge.letters import Letter, Letters, MailStatistics, address_of, id_of
from mesa_bridge.options import MAX_ROUNDS, Call, Options
from mesa_bridge.place import listed, named
from mesa_bridge.randomness import is_planning
from mesa_bridge.report import StepReport
from mesa_bridge.rounds import Rounds, note_now, opened, rounds_of

__all__ = ["aask", "ask", "dead_letters", "deliver", "mail_statistics", "post", "reply"]


def post(sender: Any, receiver: Any, message: Message) -> Message:
    """Send a message, and go on.

    ```python
    import mesa

    from llm_net import Message
    from mesa_bridge import post


    class Offer(Message):
        price: int


    class Seller(mesa.Agent):
        def offer(self, message: Offer) -> str:
            return "sold" if message.price >= 40 else "too little"


    class Buyer(mesa.Agent):
        def step(self):
            for seller in self.model.agents_by_type[Seller]:
                post(self, seller, Offer(price=30))

        def response(self, message: Message) -> None:
            print(message.sender, message.body)
    ```

    The receiver handles it in a method with one parameter besides `self`, called `message` or
    annotated as a message, with the name of the message's method; an async one may have an `a`
    before it. What that returns or yields (texts, messages, other pydantic models as their JSON)
    goes to the sender, each as an answer. Without such a method the receiver's
    `receive_message(text, sender)` hears it, or its memory keeps it. Else it is a dead letter, but
    for answers, which are let go.

    Args:
        sender: The Mesa agent that sends.
        receiver: Any Mesa agent of the same model.
        message: What is sent; the same one may go to many.

    Returns:
        The message as it will arrive: with sender, receiver, and an id and a time that the model
        decides.

    Raises:
        UsageError: If the two have no model in common, or the sender is making a plan.
    """
    letters = Letters(_model(message, sender, receiver))
    return _posted(letters.post(message, sender, receiver.unique_id, address_of(receiver)), letters)


def reply(sender: Any, message: Message, answer: Message | str) -> Message:
    """Answer a message that this agent got, now or later.

    Returns:
        The answer as it will arrive; as with `post`, whose rules hold.

    Raises:
        UsageError: If the message did not come by `post` or `ask`, or as `post` does.
    """
    letters = Letters(_model(message, sender))
    answer = message.reply(answer) if isinstance(answer, str) else _message(answer)
    address, receiver = message.sender, id_of(message.sender)
    if address is None or receiver is None:
        raise UsageError(
            f"{named(sender)} cannot answer the message {message.id!r}: its sender is "
            f"{message.sender}, and no Mesa agent. Answer what came by post() or ask()."
        )
    answer = answer.model_copy(update={"reply_to": message})
    return _posted(letters.post(answer, sender, receiver, address), letters)


def ask(
    sender: Any, receiver: Any, message: Message, *, timeout_rounds: int | None = None
) -> Message | None:
    """Send a message, and wait for the answer.

    In an activation the sender stands meanwhile, as one that plans, and others go on. Elsewhere all
    that waits for a handler is handled now, as by `deliver`, but for what is sent to the sender;
    and this blocks, in a coroutine too, since nothing else may change the model meanwhile.

    Args:
        sender: The Mesa agent that asks.
        receiver: Any Mesa agent of the same model.
        message: The question.
        timeout_rounds: Rounds to wait, at most; an answer takes two, if the receiver is free. None
            for as long as the activation has rounds.

    Returns:
        The answer; None if the receiver took the message and gave none.

    Raises:
        AskTimeout: If there was none in time. The message is not taken back, and an answer that
            comes later is a message like any other.
        AskCycle: If the receiver waits for the sender.
        HandlerError: If the receiver's handler raised; `NoHandler` if it has none.
        AgentStopped: If the receiver was removed.
        UsageError: Where a coroutine should await `aask`; and as `post`.
    """
    model = _model(message, sender, receiver)
    rounds = rounds_of(model)
    if rounds is None:
        return _ask_now(sender, receiver, message, timeout_rounds)
    turn = _turn(rounds, sender)
    if _is_in_its_loop(turn):
        raise UsageError(
            f"{named(sender)} asks by a blocking call inside of a coroutine. All others in its "
            "event loop would wait, those that are to answer too. Write: await aask(…)."
        )
    asked = rounds.ask(sender, receiver, message, _checked(timeout_rounds))
    try:
        while _waits(asked, turn):
            turn.rest()
    finally:
        rounds.forget(asked)
    return asked.result()


async def aask(
    sender: Any, receiver: Any, message: Message, *, timeout_rounds: int | None = None
) -> Message | None:
    """As `ask`, for a coroutine."""
    model = _model(message, sender, receiver)
    rounds = rounds_of(model)
    if rounds is None:
        # Not on a thread: those who are asked at once would change the model at once.
        return _ask_now(sender, receiver, message, timeout_rounds)
    turn = _turn(rounds, sender)
    asked = rounds.ask(sender, receiver, message, _checked(timeout_rounds))
    try:
        while _waits(asked, turn):
            await turn.arest()
    finally:
        rounds.forget(asked)
    return asked.result()


def deliver(model: Any, *, max_rounds: int = MAX_ROUNDS) -> StepReport:
    """Have all messages of a model handled that wait, and those that come of it.

    For models that are stepped by plain Mesa; activations in parallel do it by themselves.

    Args:
        model: The Mesa model.
        max_rounds: Rounds in which messages are handed out, at most.

    Raises:
        UsageError: If called by an agent in an activation, which delivers.
    """
    if rounds_of(model) is not None:
        raise UsageError(
            "deliver() was called within an activation of the same model. That delivers at the end "
            "of each round, when no agent is in the middle of something. Leave the call out."
        )
    options = Options(max_rounds=max_rounds)
    with opened(model, max_rounds) as rounds:
        return _handled(rounds, options)


def dead_letters(model: Any) -> list[DeadLetter]:
    """The latest 1000 messages that nobody took, each with the reason.

    That is `no_handler`, or `stopped` if the receiver is gone. `mail_statistics` counts them all.
    """
    return Letters(model).dead


def mail_statistics(model: Any) -> MailStatistics:
    """How many messages were sent between the agents of a model, and what became of them."""
    return Letters(model).statistics()


def _posted(letter: Letter, letters: Letters) -> Message:
    if rounds_of(letters.model) is None:
        note_now(letters, letter)
    return letter.message


def _ask_now(sender: Any, receiver: Any, message: Message, timeout: int | None) -> Message | None:
    """Ask where there is no activation: in one of nobody, in which letters are handled."""
    with opened(sender.model, MAX_ROUNDS) as rounds:
        rounds.away(sender.unique_id)
        asked = rounds.ask(sender, receiver, message, _checked(timeout))
        _handled(rounds, Options())
    return asked.result()


def _handled(rounds: Rounds, options: Options) -> StepReport:
    activation = Activation(versions.listed([]), Call("deliver"), options, rounds)
    activation.run()
    return activation.report()


def _model(message: object, sender: Any, *receivers: Any) -> Any:
    """The model in which the sender may send this now."""
    method = _message(message).method
    for each in (sender, *receivers):
        if not isinstance(each, mesa.Agent):
            raise UsageError(
                f"{each!r:.80} is no Mesa agent. Messages go from one agent to another. Give an "
                "agent, and for many receivers, post the same message to each."
            )
    model = sender.model
    if model is None or any(each.model is not model for each in receivers):
        raise UsageError(
            f"{named(sender)} cannot send to {listed(receivers)}: they are not in the same model. "
            "Messages go between agents of one model. Look for the receiver in model.agents."
        )
    if is_planning():
        raise UsageError(
            f"{named(sender)} sends {method!r} while it plans. Plans are made beside each "
            "other, so planning changes nothing. Send when the plan is carried out."
        )
    return model


def _message(candidate: object) -> Message:
    if not isinstance(candidate, Message):
        raise UsageError(
            f"{candidate!r:.80} is no message. Messages have ids, senders and answers. "
            "Write Message(text, method=...), or a subclass of Message."
        )
    return candidate


def _turn(rounds: Rounds, sender: Any) -> Turn:
    turn = GATE.get()
    if (
        rounds.limit
        and isinstance(turn, Turn)
        and not turn.done
        # In a turn of another model, which steps this one, it would wait for rounds of that one.
        and getattr(turn.agent, "model", None) is sender.model
    ):
        return turn
    raise UsageError(
        f"{named(sender)} asks where it cannot wait for an answer: in an activation within a "
        "turn, in receive_message, or behind the end of its turn. Post the message instead."
    )


def _waits(asked: Asked, turn: Turn) -> bool:
    return not (asked.over or turn.done)


def _checked(rounds: int | None) -> int | None:
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise UsageError(
            f"timeout_rounds={rounds!r} is no number of rounds. An answer takes two at least. "
            "Give 2 or more, or None to wait as long as the activation has rounds."
        )
    return rounds


def _is_in_its_loop(turn: Turn) -> bool:
    """Whether this is the thread of the loop in which the turn's coroutine runs."""
    if not isinstance(turn, LoopTurn) or turn.task is None:
        return False
    try:
        return asyncio.get_running_loop() is turn.task.get_loop()
    except RuntimeError:
        return False
