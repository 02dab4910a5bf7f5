"""Are the arguments of a model call such that it can work? If not: what to type.

Model tower, floor 2. Pure; each check gives the argument as requests hold it, or raises
`UsageError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pydantic import BaseModel

from llm_net.errors import UsageError
from llm_net.llm.model import Model

if TYPE_CHECKING:
    from llm_net.llm.model import ChatDict, ResponseFormat, ToolChoice

_FAMILIES = {
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude": "anthropic",
    "gemini": "gemini",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "llama": "ollama",
    "qwen": "ollama",
    "smollm2": "local",
}
_TOOL_CHOICES = ("auto", "none", "required")
_RESERVED = {
    "api_key": "Give it to ModuleLLM(api_key=…), where errors and records never show it.",
    "api_base": "Give it to ModuleLLM(api_base=…).",
    "base_url": "Give it to ModuleLLM(api_base=…).",
    "model": "A handle has one model: make another ModuleLLM.",
    "num_retries": "Give it to ModuleLLM(num_retries=…).",
    "stream": "Answers come whole; to see a network at work, use net.stream().",
    "n": "One call gives one answer: use generate_batch([prompt] * n).",
    "tools": "It is called tool_schema here.",
}


def model_name(llm_model: Any) -> None:
    """`provider/model`, `scripted`, a function or a `Model`."""
    if isinstance(llm_model, Model) or callable(llm_model):
        return
    if not isinstance(llm_model, str):
        raise UsageError(
            f"llm_model={llm_model!r} is no model. Give 'provider/model', 'local/smollm2-135m', "
            "'scripted', or a function of the request."
        )
    provider, _, name = llm_model.strip().partition("/")
    if llm_model != "scripted" and not (provider and name and llm_model == llm_model.strip()):
        family = next((f for f in _FAMILIES if llm_model.lower().startswith(f)), None)
        better = f"{_FAMILIES[family]}/{llm_model}" if family else "openai/gpt-4o-mini"
        raise UsageError(
            f"llm_model={llm_model!r} names no provider, so nobody knows whom to ask. "
            f"Write 'provider/model', such as {better!r}; or 'local/smollm2-135m' for the embedded "
            "model, 'scripted' for a script."
        )


def script(llm_model: Any, replies: Any) -> None:
    """Replies go with `scripted`, and only with it."""
    if llm_model == "scripted" and replies is None:
        raise UsageError(
            "The scripted model has no script. Write ModuleLLM('scripted', replies=['…', '…'])."
        )
    if llm_model != "scripted" and replies is not None:
        raise UsageError(
            f"replies= is the script of the scripted model, and {llm_model!r} has none. "
            "Write ModuleLLM('scripted', replies=…), or leave replies= out."
        )


def address(llm_model: Any, api_base: Any, api_key: Any) -> None:
    """An HTTP address and a key, for models that are somewhere else."""
    remote = isinstance(llm_model, str) and not llm_model.startswith(("local/", "scripted"))
    if not remote and (api_base is not None or api_key is not None):
        raise UsageError(
            f"{llm_model!r} answers inside this process: it has no use for api_base= or api_key=. "
            "Leave them out, or name a provider: 'openai/…' fits most servers."
        )
    if api_key is not None and not (isinstance(api_key, str) and api_key.strip()):
        raise UsageError(
            "api_key= is empty. Give the key, or leave api_key= out to have it taken from the "
            "provider's environment variable."
        )
    if api_base is not None:
        parts = urlsplit(str(api_base))
        if parts.username or parts.password:
            raise UsageError(
                "api_base= holds a user name or a password, which would stand in every error and "
                "record. Give the address without it, and the secret as api_key=."
            )
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(
                f"api_base={api_base!r} is no HTTP address. "
                "Write it whole, such as 'http://127.0.0.1:8000/v1'."
            )


def counts(*, at_least: int = 0, **numbers: Any) -> None:
    """Whole numbers, not below `at_least`."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < at_least:
            raise UsageError(
                f"{name}={number!r} is out of range. Give a whole number, {at_least} or more."
            )


def text(name: str, value: Any) -> str | None:
    """A text or None."""
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name}={value!r} is a {type(value).__name__}. Give text, or None.")
    return value


def params(given: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling parameters without those that are None."""
    found = {name: value for name, value in given.items() if value is not None}
    for name in found:
        if name in _RESERVED:
            raise UsageError(f"{name}= is not a parameter of a call. {_RESERVED[name]}")
    if "seed" in found and not isinstance(found["seed"], int):
        raise UsageError(f"seed={found['seed']!r} is no whole number. Give one.")
    if "max_tokens" in found:
        counts(max_tokens=found["max_tokens"], at_least=1)
    for name, above in (("temperature", False), ("timeout", True)):
        number = found.get(name)
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UsageError(f"{name}={number!r} is no number. Give one, or leave it out.")
        fits = number > 0 if above else number >= 0
        if not fits:  # NaN neither
            raise UsageError(
                f"{name}={number!r} is out of range. Give a number "
                f"{'above' if above else 'not below'} 0, or leave it out."
            )
    return found


def prompts(given: Any) -> None:
    """A list of prompts, not one."""
    if isinstance(given, str):
        raise UsageError(
            f"A batch wants a list of prompts, and {given!r} is one text. Write [{given!r}]."
        )


def messages(
    system: str | None, given: Sequence[ChatDict] | None, prompt: str | Sequence[str] | None
) -> tuple[ChatDict, ...]:
    """System prompt, whole messages, user messages, in this order."""
    found: list[ChatDict] = []
    if text("system_prompt", system):
        found.append({"role": "system", "content": system})
    for message in given or ():
        if not isinstance(message, Mapping) or "role" not in message:
            raise UsageError(
                f"{message!r} in messages= is no chat message. "
                "Write {'role': 'user', 'content': '…'}."
            )
        found.append(dict(message))
    if prompt is not None and not isinstance(prompt, Iterable):
        raise UsageError(f"The prompt is {prompt!r}. Give text, or a list of texts.")
    for line in [prompt] if isinstance(prompt, str) else list(prompt or ()):
        if not isinstance(line, str):
            raise UsageError(
                f"The prompt holds {line!r}, which is no text. Give text or a list of texts; whole "
                "chat messages go to messages=."
            )
        found.append({"role": "user", "content": line})
    if not found:
        raise UsageError(
            "There is nothing to ask: no prompt, no messages, no system prompt. "
            "Write generate('…')."
        )
    return tuple(found)


def tools(schema: Any) -> tuple[Mapping[str, Any], ...]:
    """Tools in chat-completion shape."""
    found: list[Mapping[str, Any]] = []
    offered: Any = (schema,) if isinstance(schema, Mapping) else schema or ()
    for tool in cast("Sequence[Any]", offered):
        given = cast("Mapping[str, Any]", tool if isinstance(tool, (dict, Mapping)) else {})
        function = given.get("function", given)
        if not isinstance(function, (dict, Mapping)) or "name" not in function:
            raise UsageError(
                f"{tool!r} in tool_schema= describes no tool. Write {{'name': '…', 'description': "
                "'…', 'parameters': {…}}, or the chat-completion dict around it."
            )
        found.append({"type": "function", "function": dict(cast("Mapping[str, Any]", function))})
    return tuple(found)


def tool_choice(
    choice: ToolChoice | None, offered: tuple[Mapping[str, Any], ...]
) -> ToolChoice | None:
    """`auto`, `none`, `required`, the dict that names one of the tools; None is the provider's."""
    if choice is None or choice in _TOOL_CHOICES:
        return choice
    wanted: Any = choice
    if isinstance(choice, Mapping):
        wanted = choice.get("function", choice).get("name")
    names = [tool["function"]["name"] for tool in offered]
    if wanted not in names:
        raise UsageError(
            f"tool_choice={choice!r} names none of the tools offered ({', '.join(names)}). "
            "Give 'auto', 'none', 'required', or the name of one of them."
        )
    return {"type": "function", "function": {"name": wanted}}


def response_format(given: Any) -> ResponseFormat | None:
    """A pydantic class or a JSON schema."""
    if given is None or isinstance(given, Mapping):
        return cast("Mapping[str, Any] | None", given)
    if isinstance(given, type) and issubclass(given, BaseModel):
        return given
    raise UsageError(
        f"response_format={given!r} is no shape. Give a pydantic class (the class, not an "
        "object), or a JSON schema."
    )
