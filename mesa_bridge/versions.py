"""Everything whose shape differs between Mesa 3.3, 3.5 and later; nothing else looks.

Bridge, floor 0. Mesa has no types, so agents, sets and models are `Any` here and above.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mesa
from mesa.agent import AgentSet

from llm_net.errors import UsageError

__all__ = [
    "Order",
    "agent_set_classes",
    "drawn",
    "is_default",
    "is_model",
    "is_registered",
    "listed",
    "model_of",
    "now",
    "rearm",
    "seed_material",
    "steps",
]


def steps(model: Any) -> int:
    """How many steps the model has begun."""
    counted = getattr(model, "steps", None)  # gone in Mesa 4, where a step is a unit of time
    return int(now(model) if counted is None else counted)


def now(model: Any) -> float:
    """The model's time; before Mesa 3.4 that is its steps."""
    time = getattr(model, "time", None)
    return float(model.steps if time is None else time)


def seed_material(model: Any) -> str:
    """What the model's randomness began with, as text; drawing nothing from it."""
    # The one part of it that every Mesa keeps, however the seed was given.
    return repr(model._rng)  # noqa: SLF001 - there is no public word for it


def is_model(candidate: object) -> bool:
    """Whether this is a Mesa model."""
    return isinstance(candidate, mesa.Model)


def is_registered(agent: Any) -> bool:
    """Whether the agent is in its model; not, once it has been removed."""
    model = agent.model
    return model is not None and agent in model.agents


def is_default(method: Any) -> bool:
    """Whether a method of a class is what every Mesa agent inherits, and does nothing."""
    return method is getattr(mesa.Agent, getattr(method, "__name__", ""), None)


class Order(NamedTuple):
    """Who is activated, in order.

    Attributes:
        entries: One for each agent; a weak reference where Mesa holds agents weakly, since an agent
            that nobody holds any more must not be activated because we do.
        agent: From an entry to its agent; None if it is not to be activated any more.
    """

    entries: Sequence[Any]
    agent: Callable[[Any], Any]


def drawn(agent_set: Any, *, shuffled: bool) -> Order:
    """The order in which Mesa would activate this set now, drawn from the same random stream."""
    agents = agent_set._agents  # noqa: SLF001 - its own methods begin like this
    resolve: Callable[[Any], Any]
    if hasattr(agents, "keyrefs"):
        entries = list(agents.keyrefs())
        resolve = _referred
    else:
        entries = list(agents)
        resolve = _member_of(agent_set)
    if shuffled:
        agent_set.random.shuffle(entries)
    return Order(entries, resolve)


def listed(agents: Sequence[Any]) -> Order:
    """The order of a list."""
    return Order(agents, _registered)


def _referred(reference: Callable[[], Any]) -> Any:
    return reference()


def _member_of(agent_set: Any) -> Callable[[Any], Any]:
    # Looked up each time: Mesa replaces the dict, too.
    return lambda agent: agent if agent in agent_set._agents else None  # noqa: SLF001


def _registered(agent: Any) -> Any:
    return agent if is_registered(agent) else None


def model_of(agents: Any) -> Any:
    """The model of the first of these agents; None if there is none."""
    first = next(iter(agents), None)
    return None if first is None else first.model


def agent_set_classes() -> tuple[type, ...]:
    """The classes whose `do` and `shuffle_do` activate agents in the installed Mesa.

    Raises:
        UsageError: If they are not made as we know them.
    """
    # The second is another class since Mesa 3.5, with methods of its own.
    own = type(mesa.Model(rng=0).agents)
    classes: tuple[type, ...] = (AgentSet,) if own is AgentSet else (AgentSet, own)
    for each in classes:
        for word in ("do", "shuffle_do"):
            method = vars(each).get(word)
            if not inspect.isfunction(method) or _parameters(method) != _PARAMETERS:
                raise UsageError(
                    f"Mesa {mesa.__version__} cannot be stepped in parallel by a hook: "
                    f"{each.__name__}.{word} is not the method that we know. "
                    "Use ParallelStepping(model), which needs no hook, or Mesa 3.3 to 3.5."
                )
    return classes


_PARAMETERS = ["self", "method", "args", "kwargs"]


def _parameters(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)


def rearm(model: Any) -> None:
    """See to it that the model steps on, though an exception is about to leave its step.

    Since Mesa 3.5 a step is an event that orders the next one when it is over. An exception that
    leaves it takes the next one with it: the model's time goes on, and its step is never run again.
    So an event of our own is put where the next step should be. It runs the step if the exception
    did leave; if somebody caught it in between, the step has been ordered, and it does nothing.
    """
    events = getattr(model, "_event_list", None)
    if events is None:
        return
    event = importlib.import_module("mesa.time").Event  # where there are events, there is this
    for generator in getattr(model, "_event_generators", ()):
        current = generator._current_event  # noqa: SLF001
        if current is None or current.time > now(model) or current in events:
            continue  # it is still to come: not the one under way
        following = now(model) + generator._get_interval()  # noqa: SLF001
        events.add_event(event(following, _again, generator.priority, [generator, current]))


def _again(generator: Any, current: Any) -> None:
    if generator._current_event is current:  # noqa: SLF001 - nobody has ordered another
        generator._execute_and_reschedule()  # noqa: SLF001
