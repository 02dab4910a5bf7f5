"""Messages: what agents say to each other.

Floor 0. A message is immutable and names the handler it wants. It knows addresses, never agents,
and remembers the thread it belongs to only as far as the runtime's limit allows, so that an endless
conversation does not fill the memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    create_model,
)

from llm_net.address import Address
from llm_net.context import AUTHOR, THREAD_LIMIT, new_id, now, process_id

__all__ = ["Message", "Method", "Role", "snake_case", "written"]


class Role(StrEnum):
    """Who speaks, in the words of chat-completion endpoints."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Method(StrEnum):
    """The names of handlers that the package itself gives a meaning to; any other text will do."""

    STEP = "step"
    RESPONSE = "response"
    CFP = "cfp"
    PROPOSE = "propose"
    REFUSE = "refuse"
    NOT_UNDERSTOOD = "not_understood"
    ACCEPT_PROPOSAL = "accept_proposal"
    REJECT_PROPOSAL = "reject_proposal"
    INFORM = "inform"
    FAILURE = "failure"
    CANCEL = "cancel"
    PLAN = "plan"


def snake_case(name: str) -> str:
    """`AcceptProposal` becomes `accept_proposal`, `HTTPRequest` `http_request`."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower().lstrip("_")


class _Link:
    """A message's place in its thread: the one it answers, the root, and the distance to it."""

    __slots__ = ("depth", "limit", "parent", "root")

    def __init__(self, parent: Message) -> None:
        link = _link_of(parent)
        self.parent: Message | None = parent
        self.root: Message = parent if link is None else link.root
        self.depth: int = 1 if link is None else link.depth + 1

        author = AUTHOR.get()
        self.limit: int = THREAD_LIMIT if author is None else author.thread_limit
        # Cutting walks `limit` links back; done once in `limit` replies it costs each of them one.
        if self.depth >= 2 * self.limit and self.depth % self.limit == 0:
            self._forget()

    def _forget(self) -> None:
        """Cut the thread `limit` messages above."""
        link: _Link = self
        for _ in range(self.limit - 1):
            above = None if link.parent is None else _link_of(link.parent)
            if above is None:
                return
            link = above
        link.parent = None


class _FunctionOfClass:
    """The descriptor behind `Message.init_fn`: a property of the class."""

    def __get__(self, instance: Message | None, owner: type[Message]) -> dict[str, Any]:
        schema = _call_model(owner).model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        return {
            "name": owner.__name__,
            "description": (owner.__doc__ or "").strip(),
            "parameters": schema,
        }


_M = TypeVar("_M", bound="Message")


class _ReplyOfClass(Generic[_M]):
    """`Cls.reply(message, …)`: an answer of the class `Cls`."""

    def __init__(self, cls: type[_M]) -> None:
        self._cls = cls

    def __call__(self, message: Message, body: str = "", **fields: Any) -> _M:
        return _answer(self._cls, message, body, fields)


class _ReplyOfMessage:
    """`message.reply(…)`: a plain answer to this message."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def __call__(self, body: str = "", **fields: Any) -> Message:
        return _answer(Message, self._message, body, fields)


def _answer(cls: type[_M], message: Message, body: str, fields: dict[str, Any]) -> _M:
    if cls is Message:
        # A plain reply asks for no handler but `response`: with the method of the message it
        # answers, two agents would answer each other for ever.
        fields.setdefault("method", Method.RESPONSE.value)
    if "role" not in fields:
        author = AUTHOR.get()
        fields["role"] = Role.ASSISTANT if author is None else author.role
    fields.setdefault("sender", message.receiver)
    fields.setdefault("receiver", message.sender)
    return cls(body, reply_to=message, **fields)


class _Reply:
    """The descriptor behind `reply`, which reads differently on a class and on a message."""

    @overload
    def __get__(self, instance: None, owner: type[_M]) -> _ReplyOfClass[_M]: ...
    @overload
    def __get__(self, instance: Message, owner: type[Message]) -> _ReplyOfMessage: ...
    def __get__(self, instance: Message | None, owner: type[Any]) -> Any:
        return _ReplyOfClass(owner) if instance is None else _ReplyOfMessage(instance)


class Message(BaseModel):
    """What one agent says to another: text, and the handler it is meant for.

    Immutable; unknown fields are refused (`pydantic.ValidationError`). A subclass adds typed
    fields, and has its own default method: its name in snake case, or what it sets.

    ```python
    from llm_net import Message

    class Propose(Message):
        price: float

    offer = Propose("I can start on Monday.", price=40)
    print(offer.method, offer.price)
    ```

    Attributes:
        body: The text.
        method: Which handler it wants, as a name (see `Method` for those with a meaning).
        role: `system`, `user` or `assistant`, for chat-completion endpoints.
        sender: The address of the agent that wrote it; None from outside of any agent.
        receiver: The address of the agent it is for; None if it is only overheard.
        reply_to_id: The id of the message it answers; the constructor takes it, or the message
            itself, as `reply_to`.
        id: Unique; given by the runtime.
        created_at: When it was written, aware, in UTC, on the runtime's clock.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        serialize_by_alias=True,
        validate_by_alias=True,
        validate_by_name=True,
        ignored_types=(_FunctionOfClass, _Reply),
    )
    # The thread is no field: it is memory, which fades, and must not be copied, compared or dumped.
    __slots__ = ("_link",)
    _link: ClassVar[_Link | None]

    # kw_only is for type checkers: the body is the one argument that may stand without its name.
    body: StrictStr = Field(default="", kw_only=False)
    method: str = "step"
    role: Role = Role.USER
    sender: Address | None = None
    receiver: Address | None = None
    reply_to_id: str | None = Field(default=None, alias="reply_to")
    id: str = Field(default_factory=new_id)
    created_at: datetime = Field(default_factory=now)

    init_fn = _FunctionOfClass()
    """The JSON-schema function with which a model creates such a message.

    A dict of `name`, `description` and `parameters`; the parameters are `body` and the fields that
    the class adds. `from_call` is its inverse.
    """

    reply = _Reply()
    """Answer a message: `message.reply(body)` plainly, `Propose.reply(message, price=4)` in kind.

    Sender and receiver swap, `reply_to` is set, the role is the replying agent's (`assistant`
    outside of one). A plain reply has the method `response`; both forms take `method=`.
    """

    def __init__(self, /, body: str = "", **data: Any) -> None:
        if not data and type(self) is Message and type(body) is str:
            # The most frequent call of all; a test holds the result against the validated one.
            author = AUTHOR.get()
            fields = {
                "body": body,
                "method": "step",
                "role": Role.USER,
                "sender": None,
                "receiver": None,
                "reply_to_id": None,
                "id": process_id() if author is None else author.new_id(),
                "created_at": now() if author is None else author.now(),
            }
            _set_dict(self, fields)
            _set_fields_set(self, _BODY_ONLY)
            _set_private(self, None)
            _set_extra(self, None)
            _set_link(self, None)
            return
        body = _plain_text(body)
        if "method" in data:
            data["method"] = _plain_text(data["method"])
        parent = data.get("reply_to")
        if isinstance(parent, Message):
            data["reply_to"] = parent.id
        super().__init__(body=body, **data)
        _set_link(self, _Link(parent) if isinstance(parent, Message) else None)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Runs before pydantic collects the fields, so the default of `method` is simply in place.
        super().__init_subclass__(**kwargs)
        own = vars(cls).get("__annotations__", {})
        if "method" in cls.__dict__:
            if "method" not in own:
                cls.__annotations__ = {**own, "method": "str"}
        elif "method" not in own:
            cls.__annotations__ = {**own, "method": "str"}
            cls.method = snake_case(cls.__name__)

    @property
    def reply_to(self) -> Message | None:
        """The message this one answers, while it is remembered, else None."""
        return None if self._link is None else self._link.parent

    @property
    def thread(self) -> list[Message]:
        """The conversation that led here: the root first, this message last.

        A long thread remembers its root and its latest messages (`Runtime(thread_limit=…)`).
        """
        messages: list[Message] = [self]
        link: _Link | None = self._link
        limit = 0 if link is None else link.limit
        while link is not None and link.parent is not None and len(messages) < limit:
            messages.append(link.parent)
            link = _link_of(link.parent)
        if link is not None:
            messages.append(link.root)
        messages.reverse()
        return messages

    def to_chat(self) -> dict[str, Any]:
        """The message as a chat-completion dict: `{"role": …, "content": …}`.

        The fields that a subclass adds stand behind the body, as JSON.
        """
        added = self._added_fields()
        content = self.body
        if added:
            values = self.model_dump(mode="json", include=set(added))
            content = f"{content}\n{json.dumps(values, ensure_ascii=False)}".strip()
        return {"role": self.role.value, "content": content}

    @classmethod
    def from_call(cls, arguments: Mapping[str, Any] | str) -> Self:
        """Make a message from the arguments with which a model called `init_fn`.

        Args:
            arguments: A dict, or its JSON text.

        Raises:
            pydantic.ValidationError: If the text is no JSON object, a field is missing or has the
                wrong type, or a key is not one of the parameters (a model may not set the sender).
        """
        model = _call_model(cls)
        if isinstance(arguments, str):
            call = model.model_validate_json(arguments)
        else:
            call = model.model_validate(dict(arguments))
        return cls(**{name: getattr(call, name) for name in call.model_fields_set})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with some fields changed; unlike pydantic's, the changes are validated.

        Raises:
            pydantic.ValidationError: If the changes do not make a valid message.
        """
        if not update:
            copy = super().model_copy(deep=deep)
            _set_link(copy, self._link)
            return copy
        data = {
            info.alias or name: getattr(self, name)
            for name, info in type(self).model_fields.items()
        }
        aliases = {name: info.alias for name, info in type(self).model_fields.items()}
        changes = {aliases.get(name) or name: value for name, value in update.items()}
        copy = type(self)(**{**data, **changes})
        if "reply_to" not in changes:
            _set_link(copy, self._link)
        return copy

    def filled(self, sender: Address | None, receiver: Address | None) -> Self:
        """This message under these addresses; for the runtime, which alone may set them."""
        return self._with({**self.__dict__, "sender": sender, "receiver": receiver}, self._link)

    def again(self) -> Self:
        """The same message with an id and time of its own; for periodic timers."""
        fields = self.__dict__.copy()
        fields["id"] = new_id()
        fields["created_at"] = now()
        return self._with(fields, self._link)

    def answering(self, message: Message, sender: Address, receiver: Address | None) -> Self:
        """This message as the reply to that one; for the runtime."""
        fields = self.__dict__.copy()
        fields["sender"] = sender
        fields["receiver"] = receiver
        link = self._link
        if self.reply_to_id is None:
            fields["reply_to_id"] = message.id
            link = _Link(message)
        return self._with(fields, link)

    def _with(self, fields: dict[str, Any], link: _Link | None) -> Self:
        """A message of the same class with these fields, which are known to be valid."""
        cls = type(self)
        message = _new(cls)
        _set_dict(message, fields)
        _set_fields_set(message, _PLAIN_FIELDS if cls is Message else set(fields))
        _set_private(message, None)
        _set_extra(message, None)
        _set_link(message, link)
        return message

    @classmethod
    def _added_fields(cls) -> list[str]:
        return [name for name in cls.model_fields if name not in Message.model_fields]

    def __copy__(self) -> Self:
        copy = super().__copy__()
        _set_link(copy, self._link)
        return copy

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copy = super().__deepcopy__(memo)
        _set_link(copy, None)
        return copy

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        _set_link(self, None)


# The slots' own setters: a frozen model refuses assignment, and object.__setattr__ costs a look-up.
_new = object.__new__
_slots = {**BaseModel.__dict__, **Message.__dict__}
_set_dict = _slots["__dict__"].__set__
_set_fields_set = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__
_set_link = _slots["_link"].__set__
_link_of: Callable[[Message], _Link | None] = _slots["_link"].__get__
# Shared by all plain messages: they are frozen, and copies get a set of their own.
_PLAIN_FIELDS = set(Message.model_fields)
_BODY_ONLY = {"body"}


def written(  # noqa: PLR0917 - called for every message, and keywords cost
    body: str,
    method: str,
    role: Role,
    sender: Address | None,
    receiver: Address | None,
    reply_to: Message | None,
    id: str,  # noqa: A002 - the field's name
    created_at: datetime,
) -> Message:
    """A plain message of values that are known to be valid; for the runtime.

    Validation costs more than the rest of a delivery; a test holds what this makes against what the
    constructor makes.
    """
    message: Message = _new(Message)
    _set_dict(
        message,
        {
            "body": body if type(body) is str else _plain_text(body),
            "method": method,
            "role": role,
            "sender": sender,
            "receiver": receiver,
            "reply_to_id": None if reply_to is None else reply_to.id,
            "id": id,
            "created_at": created_at,
        },
    )
    _set_fields_set(message, _PLAIN_FIELDS)
    _set_private(message, None)
    _set_extra(message, None)
    _set_link(message, None if reply_to is None else _Link(reply_to))
    return message


def _plain_text(value: Any) -> Any:
    """A text of a special class, an enum's for one, as a plain one; anything else as it is."""
    return str.__str__(value) if isinstance(value, str) and type(value) is not str else value


def _call_model(cls: type[Message]) -> type[BaseModel]:
    """The model of the arguments with which a language model makes such a message."""
    model: type[BaseModel] | None = vars(cls).get("_call_model_")
    if model is None:
        own = [name for name in cls.model_fields if name not in Message.model_fields]
        fields: dict[str, Any] = {
            name: (cls.model_fields[name].annotation, cls.model_fields[name])
            for name in ["body", *own]
        }
        model = create_model(cls.__name__, __config__=ConfigDict(extra="forbid"), **fields)
        type.__setattr__(cls, "_call_model_", model)
    return model
