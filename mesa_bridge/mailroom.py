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

from llm_net.errors import UsageError
from llm_net.mailbox import DeadLetter
from llm_net.message import Message
from llm_net.reasoning.gate import GATE
from mesa_bridge import versions
from mesa_bridge.activation import Activation
from mesa_bridge.asked import Asked
from mesa_bridge.gate import Turn
from mesa_bridge.letters import Letter, Letters, MailStatistics, address_of, id_of
from mesa_bridge.options import MAX_ROUNDS, Call, Options
from mesa_bridge.place import named
from mesa_bridge.randomness import is_planning
from mesa_bridge.report import StepReport
from mesa_bridge.rounds import Rounds, opened, rounds_of

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
    before it. What that returns (a text or a message) goes to the sender as the answer. Without
    such a method the receiver's `receive_message(text, sender)` hears it, or its memory keeps it.
    Else it is a dead letter, but for answers, which are let go.

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
    letters = Letters(_model(sender, receiver, message))
    return _posted(letters.post(message, sender, receiver.unique_id, address_of(receiver)), letters)


def reply(sender: Any, message: Message, answer: Message | str) -> Message:
    """Answer a message that this agent got, now or later.

    Returns:
        The answer as it will arrive; as with `post`, whose rules hold.

    Raises:
        UsageError: If the message did not come by `post` or `ask`, or as `post` does.
    """
    if isinstance(answer, str):
        answer = message.reply(answer)
    address, receiver = message.sender, id_of(message.sender)
    if address is None or receiver is None:
        raise UsageError(
            f"{named(sender)} cannot answer the message {message.id!r}: its sender is "
            f"{message.sender}, and no Mesa agent. Answer what came by post() or ask()."
        )
    letters = Letters(_model(sender, None, message))
    answer = answer.model_copy(update={"reply_to": message})
    return _posted(letters.post(answer, sender, receiver, address), letters)


def ask(
    sender: Any, receiver: Any, message: Message, *, timeout_rounds: int | None = None
) -> Message | None:
    """Send a message, and wait for the answer.

    In an activation the sender stands meanwhile, as one that plans, and others go on. Elsewhere all
    that waits for a handler is handled now, as by `deliver`, but for what is sent to the sender.

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
    if _is_in_loop():
        raise UsageError(
            f"{named(sender)} asks by a blocking call inside of a coroutine. All others in its "
            "event loop would wait, those that are to answer too. Write: await aask(…)."
        )
    model = _model(sender, receiver, message)
    rounds = rounds_of(model)
    if rounds is None:
        return _ask_now(sender, receiver, message, timeout_rounds)
    turn = _turn(rounds, sender)
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
    model = _model(sender, receiver, message)
    rounds = rounds_of(model)
    if rounds is None:
        return await asyncio.to_thread(_ask_now, sender, receiver, message, timeout_rounds)
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
    """The messages that nobody took, with the reason: `no_handler`, or `stopped` if it is gone."""
    return Letters(model).dead


def mail_statistics(model: Any) -> MailStatistics:
    """How many messages were sent between the agents of a model, and what became of them."""
    return Letters(model).statistics()


def _posted(letter: Letter, letters: Letters) -> Message:
    with opened(letters.model, MAX_ROUNDS):  # unless it is within others, hands out what is noted
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


def _model(sender: Any, receiver: Any, message: Any) -> Any:
    """The model in which this may be sent now."""
    model = sender.model
    if model is None or (receiver is not None and receiver.model is not model):
        raise UsageError(
            f"{named(sender)} cannot send to {named(receiver)}: they are not in the same model. "
            "Messages go between agents of one model."
        )
    if not isinstance(message, Message):
        raise UsageError(
            f"{message!r} is no message. Messages have ids, senders and answers. "
            f"Write Message({message!r}, method=...), or a subclass of Message."
        )
    if is_planning():
        raise UsageError(
            f"{named(sender)} sends {message.method!r} while it plans. Plans are made beside each "
            "other, so planning changes nothing. Send when the plan is carried out."
        )
    return model


def _turn(rounds: Rounds, sender: Any) -> Turn:
    turn = GATE.get()
    if not rounds.limit or not isinstance(turn, Turn) or turn.done:
        raise UsageError(
            f"{named(sender)} asks where it cannot wait for an answer: in an activation within a "
            "turn, in receive_message, or behind the end of its turn. Post the message instead."
        )
    return turn


def _waits(asked: Asked, turn: Turn) -> bool:
    return not (asked.over or turn.done)


def _checked(rounds: int | None) -> int | None:
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise UsageError(
            f"timeout_rounds={rounds!r} is no number of rounds. An answer takes two at least. "
            "Give 2 or more, or None to wait as long as the activation has rounds."
        )
    return rounds


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
