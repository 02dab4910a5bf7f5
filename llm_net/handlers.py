"""What an agent's class can do: the handlers that a message may reach, and the hooks.

Floor 1. Knows classes and messages; knows nothing of running agents. A message names its handler,
and a model may have written that name: so only what is declared as a handler is ever looked up.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import FunctionType
from typing import Any, ClassVar

from llm_net.address import Address
from llm_net.message import Message

__all__ = [
    "HOOKS",
    "Behaviour",
    "Call",
    "Handler",
    "Place",
    "behaviour_of",
    "defining_names",
    "is_async",
    "is_handler",
    "refuse_reserved",
]


class Place(Enum):
    """Where a handler runs."""

    LOOP = "async, in the event loop"
    THREAD = "sync, on a thread, for it may block"
    INLINE = "sync, in the event loop, for it promises not to block"


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler of a class.

    Attributes:
        name: The method's name, as in `astep`.
        call: The function; takes the agent and the message.
        place: Where it runs.
        streams: Whether it is an async generator function.
        accepts: The class of messages it takes; None if it takes all.
    """

    name: str
    call: Callable[..., Any]
    place: Place
    streams: bool
    accepts: type[Message] | None


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All that the runtime needs to know of an agent's class.

    Attributes:
        handlers: By the method that a message names.
        unhandled: What takes a message without a handler, if the class says so.
        hooks: The life-cycle hooks it overrides, by their name without the `a` of async ones.
        blocking: Whether its sync handlers and hooks may block.
        concurrency: How many turns may be open at once.
    """

    handlers: Mapping[str, Handler]
    unhandled: Handler | None
    hooks: Mapping[str, FunctionType]
    blocking: bool
    concurrency: int


HOOKS = ("on_start", "on_stop", "on_failure")

CALL = "<call>"


class Call(Message):
    """A call made through a Pykka proxy, queued among the messages.

    It cannot come out of a text: what it calls is no field, and only this class's own instances
    reach the handler that makes the call.
    """

    __slots__ = ("run",)

    method: str = CALL

    run: ClassVar[Callable[[Any], None]]

    @classmethod
    def of(cls, run: Callable[[Any], None]) -> Call:
        """The message that makes this call on the agent when its turn comes."""
        call = cls()
        object.__setattr__(call, "run", run)
        return call

    def filled(self, sender: Address | None, receiver: Address | None) -> Call:
        """The same call under these addresses."""
        call = super().filled(sender, receiver)
        object.__setattr__(call, "run", self.run)
        return call


def own_classes(cls: type, library: frozenset[type]) -> Iterator[type]:
    """The classes a user wrote, from the most special to the most general."""
    for base in cls.__mro__:
        if base not in library and base is not object:
            yield base


def _own_functions(cls: type, library: frozenset[type]) -> Iterator[tuple[str, FunctionType]]:
    """The methods a user wrote that an instance has, not those that others stand in front of."""
    for base in own_classes(cls, library):
        for name, member in vars(base).items():
            if getattr(cls, name, None) is member and isinstance(member, FunctionType):
                yield name, member


def is_async(function: Any) -> bool:
    """Whether the function is a coroutine function or an async generator function."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_handler(function: Any) -> bool:
    """Whether this member of a class has a handler's signature.

    One parameter besides `self`, which is called `message` or annotated as a message.
    """
    return _parameter(function, {}) is not None


def _parameter(function: Any, names: Mapping[str, Any]) -> inspect.Parameter | None:
    """The parameter that takes the message, if this is a handler."""
    if not isinstance(function, FunctionType):
        return None
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2:  # noqa: PLR2004 - self and the message
        return None
    parameter = parameters[1]
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return None
    if parameter.name == "message" or _message_class(function, parameter, names) is not None:
        return parameter
    return None


def _message_class(
    function: FunctionType, parameter: inspect.Parameter, names: Mapping[str, Any]
) -> type[Message] | None:
    """The message class in the parameter's annotation, if it is one and can be resolved."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            hints = typing.get_type_hints(function, localns=dict(names))
        except Exception:  # noqa: BLE001 - any name may be missing, any expression may fail
            return None
        annotation = hints.get(parameter.name)
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return annotation
    return None


def defining_names(depth: int = 2) -> dict[str, Any]:
    """The local names where the class statement stands, for annotations kept as text."""
    # As pydantic finds a model's local names; there is no public way.
    frame = sys._getframe(depth)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("abc", "pydantic", "llm_net.")):
            break
        frame = frame.f_back
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def refuse_reserved(cls: type, library: frozenset[type], hooks: frozenset[str]) -> None:
    """Refuse a class whose fields or handlers take names that the library uses.

    Raises:
        TypeError: If one does; names it, and the class it stands in.
    """
    homes = [base for base in cls.__mro__ if base in library]
    reserved = {name for home in homes for name in dir(home)} - hooks
    configurable = {name for home in homes for name in getattr(home, "model_fields", {})}
    for base in own_classes(cls, library):
        fields = {
            name
            for name, annotation in vars(base).get("__annotations__", {}).items()
            if "ClassVar" not in str(annotation)
        }
        for name in fields & reserved - configurable:
            msg = (
                f"The field {name!r} of {base.__name__} takes a name that {homes[0].__name__} "
                "itself uses. Give the field another name."
            )
            raise TypeError(msg)
        for name, member in base.__dict__.items():
            if name in reserved and not name.startswith("_") and is_handler(member):
                msg = (
                    f"The handler {name!r} of {base.__name__} takes a name that "
                    f"{homes[0].__name__} itself uses, so no message may reach it. "
                    "Give the handler another name."
                )
                raise TypeError(msg)


def behaviour_of(
    cls: type,
    library: frozenset[type],
    names: Mapping[str, Any],
    *,
    blocking: bool,
    concurrency: int,
) -> Behaviour:
    """The behaviour of a class.

    Method `m` goes to `am` if that is async, else to `m`.

    Args:
        cls: The agent's class.
        library: The classes of this package; their names are never reached.
        names: Local names for annotations kept as text.
        blocking: Whether sync handlers may block.
        concurrency: How many turns may be open at once.
    """
    reserved = {name for base in cls.__mro__ if base in library for name in dir(base)}
    found: dict[str, Handler] = {}
    hooks: dict[str, FunctionType] = {}
    unhandled: Handler | None = None
    for name, member in _own_functions(cls, library):
        hook = name.removeprefix("a") if name.startswith("aon_") else name
        if hook in HOOKS:
            # As with handlers, an async hook takes precedence over a sync one.
            if hook not in hooks or is_async(member):
                hooks[hook] = member
            continue
        handler = _handler(name, member, names, blocking=blocking)
        if handler is None:
            continue
        if name in {"unhandled", "aunhandled"}:
            if unhandled is None or handler.place is Place.LOOP:
                unhandled = handler
        elif name not in reserved and not name.startswith("_"):
            found.setdefault(name, handler)
    table = dict(found)
    for name, handler in found.items():
        if name.startswith("a") and len(name) > 1 and handler.place is Place.LOOP:
            table[name[1:]] = handler
    table[CALL] = Handler(
        CALL, _make_call, Place.THREAD if blocking else Place.INLINE, streams=False, accepts=Call
    )
    return Behaviour(table, unhandled, hooks, blocking, concurrency)


def _make_call(agent: Any, message: Any) -> None:
    message.run(agent)


def _handler(name: str, member: Any, names: Mapping[str, Any], *, blocking: bool) -> Handler | None:
    """The handler that this member of a class is, or None."""
    parameter = _parameter(member, names)
    if parameter is None:
        return None
    sync = Place.THREAD if blocking else Place.INLINE
    accepts = _message_class(member, parameter, names)
    return Handler(
        name=name,
        call=member,
        place=Place.LOOP if is_async(member) else sync,
        streams=inspect.isasyncgenfunction(member),
        accepts=None if accepts is Message else accepts,
    )
