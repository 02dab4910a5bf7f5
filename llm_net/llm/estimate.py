"""What a request will take: at most, and probably.

Model tower, floor 1. No tokenizer: each model has its own, and counting must not cost more than a
call's share of a millisecond. A token is at least one byte, so bytes are a bound that holds for
every model; a quarter of them is what English takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from llm_net.llm.answers import json_schema
from llm_net.llm.model import Completion, Request, Usage

if TYPE_CHECKING:
    from llm_net.llm.ledger import Ledger

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "FREE",
    "Estimate",
    "Price",
    "estimate_request",
    "likely_tokens",
    "likely_usage",
    "max_answer_tokens",
    "plausible_usage",
    "prompt_bound",
]

DEFAULT_MAX_TOKENS = 1024
"""The longest answer, where tokens or dollars are limited and the request does not say."""

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 16
"""At most so many tokens a message takes beside its text: its role, its frame."""
ABSURD_TOKENS = 100_000_000
"""More than any model reads or writes; whoever reports this is not believed."""


@dataclass(frozen=True)
class Price:
    """US dollars for a token.

    Attributes:
        prompt: For one that is read.
        completion: For one that is written.
    """

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, read: int, written: int) -> float:
        """What so many tokens cost."""
        return self.prompt * read + self.completion * written


FREE = Price()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What calls will take.

    Attributes:
        calls: How many there are.
        tokens: Read and written.
        usd: US dollars; None if a price is not known.
        seconds: Waited for answers, if one call is made after the other.
    """

    calls: int = 1
    tokens: int = 0
    usd: float | None = None
    seconds: float | None = None

    @classmethod
    def from_ledger(cls, ledger: Ledger, times: float) -> Estimate:
        """What `times` as much will take as a probe took: run one step, then ask about a hundred.

        Args:
            ledger: What the probe took.
            times: How many probes the whole is worth.
        """
        row = ledger.totals()
        return cls(
            calls=math.ceil(row.calls * times),
            tokens=math.ceil(row.usage.total_tokens * times),
            usd=row.usd * times,
            seconds=row.latency * times,
        )


def estimate_request(request: Request, price: Price | None = None) -> Estimate:
    """What one request takes at most.

    Args:
        request: The request. Without `max_tokens` the answer counts as `DEFAULT_MAX_TOKENS`.
        price: What the model's tokens cost; None if it is not known.
    """
    read, written = prompt_bound(request), max_answer_tokens(request)
    if written is None:
        written = DEFAULT_MAX_TOKENS
    return Estimate(tokens=read + written, usd=None if price is None else price.of(read, written))


def max_answer_tokens(request: Request) -> int | None:
    """The longest answer that the request allows, by either of the names that providers have."""
    limit: int | None = request.params.get("max_tokens")
    return request.params.get("max_completion_tokens") if limit is None else limit


def prompt_bound(request: Request) -> int:
    """As many tokens as the prompt can be at most."""
    return _prompt_bytes(request) + MESSAGE_TOKENS * (len(request.messages) + 1)


def likely_tokens(request: Request) -> int:
    """As many tokens as the prompt probably is, and the longest answer if there is a limit."""
    return _tokens(_prompt_bytes(request)) + (max_answer_tokens(request) or 0)


def likely_usage(request: Request, characters: int) -> Usage:
    """What a call probably took of whose answer so much was seen."""
    return Usage(
        prompt_tokens=_tokens(_prompt_bytes(request)), completion_tokens=_tokens(characters)
    )


def plausible_usage(completion: Completion, request: Request) -> Usage:
    """What a call took: as the provider says, or as it probably is where that cannot be.

    A count that is missing, negative or absurd would lower what is spent, or end a run.
    """
    usage = completion.usage
    prompt, answer, cached = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
    prompt_known = 0 < prompt < ABSURD_TOKENS
    answer_known = 0 < answer < ABSURD_TOKENS
    if prompt_known and answer_known and 0 <= cached <= prompt:
        return usage
    if not answer_known:
        written = len(completion.text) + len(completion.reasoning)
        written += sum(len(call.name) + len(call.arguments) for call in completion.tool_calls)
        answer = _tokens(written)
    return Usage(
        prompt_tokens=prompt if prompt_known else _tokens(_prompt_bytes(request)),
        completion_tokens=answer,
        cached_tokens=cached if prompt_known and 0 <= cached <= prompt else 0,
    )


def _tokens(size: int) -> int:
    return math.ceil(size / BYTES_PER_TOKEN)


def _prompt_bytes(request: Request) -> int:
    size = sum(_size(value) for message in request.messages for value in message.values())
    size += sum(_size(tool) for tool in request.tools)
    if request.response_format is not None:
        size += _size(json_schema(request.response_format))
    return size


def _size(value: Any) -> int:
    """Bytes of a part of a request, as it is sent."""
    if isinstance(value, str):
        # An ASCII text, by far the usual one, is not encoded to be measured.
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if value is None:
        return 0
    text = json.dumps(value, default=_as_dict, ensure_ascii=False)
    return len(text.encode(errors="surrogatepass"))


def _as_dict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return str(value)
