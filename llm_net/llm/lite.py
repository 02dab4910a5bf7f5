"""Every provider that LiteLLM reaches. The only file that imports LiteLLM, and not before a call.

Model tower, floor 2. LiteLLM takes seconds to import and then looks for prices on the network; it
prints, and it retries. All that is off here. Its exceptions may show the key, and they carry the
request with its headers, so none of them leaves this file.
"""

from __future__ import annotations

import copy
import difflib
import functools
import json
import logging
import math
import os
import re
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from llm_net.errors import ModelCallError, ModelSetupError, UsageError
from llm_net.llm import keys
from llm_net.llm.answers import json_schema
from llm_net.llm.estimate import Price
from llm_net.llm.live import check_live
from llm_net.llm.model import ChatDict, Chunk, Completion, Request, ToolCall, Usage
from llm_net.llm.redaction import Redactor, StreamRedactor, clean
from llm_net.llm.streams import afollow, follow
from llm_net.llm.waiting import await_future, in_background, wait, within

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

__all__ = ["LiteModel", "retry_after_seconds"]

# Servers on one's own machine: they ask for no key, and LiteLLM knows their usual port.
_KEYLESS = frozenset(
    {"docker_model_runner", "hosted_vllm", "llamafile", "lm_studio", "ollama", "ollama_chat"}
)
_PASSES = "This may pass: try again, or let it be tried again with num_retries=…."
_CHECK_REQUEST = "Check the parameters, the tools and the messages."
_CHECK_KEY = "Check the key, and whether it is for this provider and this model."
_ADVICE: dict[int | None, str] = {
    400: _CHECK_REQUEST,
    401: _CHECK_KEY,
    403: _CHECK_KEY,
    404: "Check the model's name, and api_base (most end in /v1).",
    422: _CHECK_REQUEST,
    429: "Ask less often, raise your limit, or wait and try again: num_retries=….",
}
_PREFIX = re.compile(r"^litellm\.\w+: (\w+: )?(\w+Exception - )?")
_PASSING = frozenset({408, 409, 425, 429})
_LONGEST_TEXT = 500
_MILLION = 1_000_000
_PATIENCE_OF_LITELLM_S = 5.0


class LiteModel:
    """A model somewhere else, asked through LiteLLM.

    Args:
        name: `provider/model`.
        api_base: Where it is; None for the provider's own address.
        api_key: None to take it from the environment; `llm_net.llm.keys` says when it is sent.
    """

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self.name = name
        self._api_base = api_base
        self._api_key = api_key
        if api_key is not None:
            keys.remember(api_key)

    def __repr__(self) -> str:
        return f"LiteModel({self.name!r})"

    def complete(self, request: Request) -> Completion:
        """Ask the provider, and wait.

        Raises:
            UsageError: If there is no such provider, or it cannot take a parameter.
            ModelSetupError: If the provider's key is missing.
            ModelCallError: If the provider refused, failed, or took too long.
        """
        return wait(in_background(self._ask(request)), timeout=None, who=self.name)

    async def acomplete(self, request: Request) -> Completion:
        """Ask the provider without blocking the event loop; raises what `complete` does."""
        return await await_future(in_background(self._ask(request)), timeout=None, who=self.name)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Ask the provider, and wait piece by piece; raises what `complete` does.

        Where the provider does not tell the usage of a stream, LiteLLM estimates it. A call that
        fails is not made again: part of its answer may have been handed out.
        """
        return follow(self._pieces(request), timeout=request.timeout, who=self.name)

    def astream(self, request: Request) -> AsyncIterator[Chunk]:
        """Ask the provider, and wait beside the event loop; see `stream`."""
        return afollow(self._pieces(request), timeout=request.timeout, who=self.name)

    async def _pieces(self, request: Request) -> AsyncGenerator[Chunk, None]:
        litellm = _litellm()
        outcome = await self._opened(litellm, request)
        if isinstance(outcome, _Failure):
            raise outcome.error from outcome.cause
        stream, keyless = outcome
        heard = StreamRedactor(keys.redactor())
        parts: list[Any] = []
        failure: _Failure | None = None
        try:
            async for part in stream:
                parts.append(part)
                text = part.choices[0].delta.content if part.choices else None
                if text := heard.feed(text or ""):
                    yield Chunk(text)
        except Exception as error:  # noqa: BLE001 - LiteLLM lets anything out, the key included
            failure = self._failure(litellm, error, keyless=keyless)
        finally:
            await stream.aclose()
            del stream, outcome  # the key is in them
        if failure is not None:
            raise failure.error from failure.cause
        yield Chunk(heard.rest(), self._put_together(litellm, parts, request))

    async def _opened(self, litellm: Any, request: Request) -> tuple[Any, bool] | _Failure:
        """The stream, and whether it was asked for without a key."""
        options = self._options(litellm, request) | {"stream": True}
        model, provider, _ = _provider(litellm, self.name)
        supported = litellm.get_supported_openai_params(model, custom_llm_provider=provider)
        if "stream_options" in (supported or ()):
            options.setdefault("stream_options", {"include_usage": True})
        keyless = options.get("api_key") == keys.PLACEHOLDER
        try:
            return await litellm.acompletion(**options), keyless
        except Exception as error:  # noqa: BLE001 - LiteLLM lets anything out, the key included
            return self._failure(litellm, error, keyless=keyless)

    def _put_together(self, litellm: Any, parts: list[Any], request: Request) -> Completion:
        """The whole answer: what each piece added to its text, and to each of its tool calls."""
        whole = litellm.stream_chunk_builder(parts, messages=list(request.messages))
        if whole is None:
            return Completion(model=self.name)
        try:
            # The older releases that we support put no price on what they put together.
            cost = litellm.completion_cost(whole, model=self.name)
        except Exception:  # noqa: BLE001 - it has a class for every way of not knowing the price
            cost = None
        return replace(self._completion(whole), cost=cost)

    async def _ask(self, request: Request) -> Completion:
        outcome = await within(self._attempt(request), timeout=request.timeout, who=self.name)
        if isinstance(outcome, Completion):
            return outcome
        # Raised here, where no exception is being handled and no local variable holds a key: the
        # error has no LiteLLM exception in its context, and none in its traceback.
        raise outcome.error from outcome.cause

    def price(self) -> Price | None:
        """What a token costs, by LiteLLM's list; None if that does not hold this model."""
        litellm = _litellm()
        try:
            read, written = litellm.cost_per_token(
                model=self.name, prompt_tokens=_MILLION, completion_tokens=_MILLION
            )
        except Exception:  # noqa: BLE001 - it has a class for every way of not knowing the price
            return None
        return Price(read / _MILLION, written / _MILLION)

    async def _attempt(self, request: Request) -> Completion | _Failure:
        litellm = _litellm()
        options = self._options(litellm, request)
        try:
            response = await litellm.acompletion(**options)
        except Exception as error:  # noqa: BLE001 - LiteLLM lets anything out, the key included
            return self._failure(litellm, error, keyless=options.get("api_key") == keys.PLACEHOLDER)
        return self._completion(response)

    def _options(self, litellm: Any, request: Request) -> dict[str, Any]:
        model, provider, known_base = _provider(litellm, self.name)
        params = dict(request.params)
        if "timeout" in params:
            # Ours ends the call; theirs only closes the socket after that.
            params["timeout"] += _PATIENCE_OF_LITELLM_S
        messages: list[ChatDict] = list(request.messages)
        if request.response_format is not None:
            supported = litellm.get_supported_openai_params(model, custom_llm_provider=provider)
            if "response_format" in (supported or ()):
                params["response_format"] = _response_format(request)
            else:
                messages = _told_the_shape(request)
        if request.tools:
            # Copies: adapters of providers change what they are given.
            tools = copy.deepcopy(list(request.tools))
            params |= {"tools": tools, "tool_choice": request.tool_choice}
        key = self._key(litellm, provider, known_base)
        here = "http://localhost" if provider in _KEYLESS else None
        for address in keys.addresses(provider, self._api_base, known_base or here):
            check_live(self.name, address)
        return {
            **params,
            "model": self.name,
            "messages": [dict(message) for message in messages],
            "api_base": self._api_base,
            "api_key": key,
            "max_retries": 0,
        }

    def _key(self, litellm: Any, provider: str, known_base: str | None) -> str | None:
        """The key to hand to LiteLLM; None lets it take the one in the environment."""
        if self._api_key is not None:
            return self._api_key
        if keys.is_own_place(provider, self._api_base, known_base):
            if provider not in _KEYLESS:
                self._check_environment(litellm, provider)
            return None
        if provider in keys.WITHOUT_PLACEHOLDER:
            raise UsageError(
                f"{self.name!r} would be asked at {self._api_base}, which is not {provider}'s own "
                "address, with credentials from the environment. They are not sent there. "
                "Give a key for that place (api_key=…), or leave api_base= out."
            )
        return keys.PLACEHOLDER

    def _check_environment(self, litellm: Any, provider: str) -> None:
        found = litellm.validate_environment(self.name)
        missing: list[str] = [] if found["keys_in_environment"] else found["missing_keys"]
        blank = keys.blank_key(provider)
        names = missing or ([blank] if blank else [])
        if not names:
            return
        wanted = (" or " if provider in keys.ANY_OF else " and ").join(names)
        raise ModelSetupError(
            f"{self.name!r} cannot be asked: {wanted} is not set, and no api_key= was given. "
            f"Set it (export {names[0]}=…) or give ModuleLLM(…, api_key=…). Without any key: "
            "llm_model='local/smollm2-135m'."
        )

    def _completion(self, response: Any) -> Completion:
        choice = response.choices[0]
        usage = getattr(response, "usage", None)
        details = getattr(usage, "prompt_tokens_details", None)
        answer = Completion(
            text=choice.message.content or "",
            tool_calls=tuple(
                ToolCall(name=call.function.name, arguments=call.function.arguments, id=call.id)
                for call in choice.message.tool_calls or ()
            ),
            usage=Usage(
                prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
                completion_tokens=getattr(usage, "completion_tokens", None) or 0,
                cached_tokens=getattr(details, "cached_tokens", None) or 0,
            ),
            cost=response._hidden_params.get("response_cost"),  # noqa: SLF001 - has no other door
            finish_reason=choice.finish_reason or "stop",
            model=self.name,
        )
        # A provider may echo its key, and what it answers goes into messages, traces and records.
        return clean(answer, keys.redactor().exact)

    def _failure(self, litellm: Any, error: Exception, *, keyless: bool) -> _Failure:
        redact = keys.redactor()
        status: int | None = getattr(error, "status_code", None)
        cause = _harmless_cause(error, redact)
        if isinstance(error, litellm.UnsupportedParamsError):
            status, cause = 400, None
        where = f" at {redact(self._api_base)}" if self._api_base else ""
        if cause is not None:
            happened, advice = f"could not be reached{where}", "Is it running? Is api_base right?"
        else:
            happened = f"refused or failed{where} ({type(error).__name__}, status {status})"
            advice = _advice(litellm, error, status, keyless=keyless)
        # LiteLLM appends whole tracebacks; what the provider said comes first.
        said = " ".join(str(error).partition("Traceback (most")[0].split())
        said = redact(_PREFIX.sub("", said))[:_LONGEST_TEXT]
        headers: Any = getattr(error, "litellm_response_headers", None) or {}
        failure = ModelCallError(f"{self.name!r} {happened}: {said.rstrip('.')}. {advice}")
        failure.status = status
        failure.passing = cause is not None or status in _PASSING or (status or 0) >= 500  # noqa: PLR2004 - HTTP's own
        failure.retry_after = retry_after_seconds(headers.get("retry-after"))
        return _Failure(error=failure, cause=cause)


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """A call that failed, without a trace of its key."""

    error: ModelCallError
    cause: OSError | None


def retry_after_seconds(retry_after: str | None) -> float | None:
    """The seconds of a Retry-After header, which may be a date; None if it says nothing."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            when = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = when.timestamp() - time.time()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


@functools.cache
def _litellm() -> Any:
    """LiteLLM, with everything off that nobody asked for."""
    # Read when it is imported: no price list from the network, no .env file of the user's.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    try:
        import litellm  # noqa: PLC0415 - takes seconds
    except ImportError as error:
        raise ModelSetupError(
            f"LiteLLM cannot be imported: {error}. All providers are reached through it. "
            "Type: pip install --force-reinstall llm-net"
        ) from error
    loose: Any = litellm
    loose.suppress_debug_info = True
    if "LITELLM_LOG" not in os.environ:  # who sets it wants to see, and be it the keys
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return loose


def _provider(litellm: Any, name: str) -> tuple[str, str, str | None]:
    """Model, provider, and the provider's own address if LiteLLM tells it."""
    prefix = name.partition("/")[0]
    known = {str(getattr(p, "value", p)) for p in litellm.provider_list}
    if prefix in known:
        model, provider, _, known_base = litellm.get_llm_provider(name)
        return model, provider, known_base
    close = difflib.get_close_matches(prefix, sorted(known), n=3)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "Check the spelling."
    raise UsageError(
        f"llm_model={name!r}: LiteLLM knows no provider {prefix!r}. {hint} A server that speaks "
        "OpenAI's protocol is reached as 'openai/MODEL' with api_base=…."
    )


def _response_format(request: Request) -> Any:
    """The format as LiteLLM takes it: a bare JSON schema wants its wrapper."""
    given = request.response_format
    if isinstance(given, type) or given is None:
        return given
    if given.get("type") in {"json_schema", "json_object"} and "properties" not in given:
        return dict(given)
    name = str(given.get("title", "answer"))
    return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(given)}}


def _told_the_shape(request: Request) -> list[ChatDict]:
    """The messages for a provider that knows no response format: the schema is said in words."""
    assert request.response_format is not None, "asked only if there is one"
    schema = json.dumps(json_schema(request.response_format))
    told = f"Answer with JSON only, without any other text. It must fit this JSON schema: {schema}"
    return [{"role": "system", "content": told}, *request.messages]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _harmless_cause(error: Exception, redact: Redactor) -> OSError | None:
    """Why the connection failed, as the operating system put it: no request hangs on that."""
    for link in _chain(error):
        own = type(link).__module__ in {"builtins", "socket", "ssl"}
        if own and isinstance(link, OSError) and redact(str(link)) == str(link):
            # A new one: the old one's traceback leads to frames that hold the headers.
            return OSError(*cast("Sequence[Any]", link.args))
    return None


def _advice(litellm: Any, error: Exception, status: int | None, *, keyless: bool) -> str:
    if isinstance(error, litellm.UnsupportedParamsError):
        return "Leave that parameter out, or take a model that knows it."
    if isinstance(error, litellm.ContextWindowExceededError):
        return "The prompt is too long for the model: shorten it, or take a model that reads more."
    if keyless and status in {401, 403}:
        return (
            "No key was sent: the one in the environment goes only to the provider's own address. "
            "If this place may see it, say so: ModuleLLM(…, api_key=os.environ['…'])."
        )
    return _ADVICE.get(status, _PASSES)
