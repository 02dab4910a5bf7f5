"""Which key may go where, and which texts are keys.

Model tower, floor 0. Pure: knows addresses and environment variables, calls nobody.

The rule: a key that was given by hand goes where its owner said. A key from the environment belongs
to its provider, so it goes to the provider's own host, or to the base that the environment names as
well, and nowhere else: an `api_base` in some example's code must not be enough to collect keys.
"""

from __future__ import annotations

import functools
import os
from urllib.parse import urlsplit

from llm_net.llm.redaction import Redactor

__all__ = [
    "ANY_OF",
    "PLACEHOLDER",
    "WITHOUT_PLACEHOLDER",
    "Redactor",
    "addresses",
    "blank_key",
    "is_own_place",
    "redactor",
    "remember",
    "secrets",
]

PLACEHOLDER = "no-key-was-given"
"""What servers get to see that must not see the key from the environment."""

WITHOUT_PLACEHOLDER = frozenset(
    {
        "bedrock",
        "chatgpt",
        "gdc",
        "gigachat",
        "github_copilot",
        "oci",
        "sagemaker",
        "sagemaker_chat",
        "sagemaker_nova",
        "sap",
        "vertex_ai",
        "vertex_ai_beta",
        "watsonx",
        "watsonx_text",
    }
)
"""Providers whose credentials are more than one key, so a placeholder does not displace them."""

ANY_OF = frozenset({"gemini"})
"""Providers with several variables, of which one is enough."""

_OWN = {
    "anthropic": "https://api.anthropic.com",
    "cohere": "https://api.cohere.com",
    "cohere_chat": "https://api.cohere.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "huggingface": "https://router.huggingface.co",
    "openai": "https://api.openai.com",
    "openrouter": "https://openrouter.ai",
    "together_ai": "https://api.together.xyz",
}
_BASE_VARIABLES = ("{}_API_BASE", "{}_BASE_URL", "{}_ENDPOINT")
_SECRET_NAMES = tuple(
    f"{word}{end}"
    for word in ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "CREDENTIALS")
    for end in ("", "_ID")
)
# Below, it is a word like `none`, or in the environment one like `postgres`: hiding it would maim
# the text, and differently on every machine.
_SHORTEST_SECRET = 6
_SHORTEST_OF_LETTERS = 20
_given: set[str] = set()


def _origin(address: str | None) -> tuple[str, str | None, int | None] | None:
    """Scheme, host and port; the scheme too, for a key must not be sent in the clear."""
    if not address:
        return None
    parts = urlsplit(address)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return parts.scheme, parts.hostname, port


def is_own_place(provider: str, api_base: str | None, known_base: str | None) -> bool:
    """Whether the provider's key from the environment may go to `api_base`.

    Args:
        provider: LiteLLM's name for it.
        api_base: Where the call is to go; None for the provider's own address.
        known_base: The provider's own address, if LiteLLM tells it.
    """
    if api_base is None:
        return True
    named = [os.environ.get(name.format(provider.upper())) for name in _BASE_VARIABLES]
    own = {_origin(place) for place in (*named, known_base, _OWN.get(provider))}
    return _origin(api_base) in own - {None}


def addresses(provider: str, api_base: str | None, known_base: str | None) -> list[str | None]:
    """Where a call may go: `api_base`, what the environment names, or the provider's own address.

    Several, if the environment contradicts itself; None stands for an address that only LiteLLM
    knows.
    """
    if api_base is not None:
        return [api_base]
    named = [os.environ.get(name.format(provider.upper())) for name in _BASE_VARIABLES]
    return [base for base in named if base] or [known_base or _OWN.get(provider)]


def blank_key(provider: str) -> str | None:
    """The provider's variable, if it is set but empty, as an unfilled `.env` leaves it."""
    name = f"{provider.upper()}_API_KEY"
    value = os.environ.get(name)
    return name if value is not None and not value.strip() else None


def remember(secret: str) -> None:
    """Let every redactor of this process know a key that was given by hand.

    For as long as the process lives: a key is no less secret once its model is gone.
    """
    _given.add(secret)


def secrets(given: str | None = None) -> list[str]:
    """The keys given by hand, and whatever in the environment looks like one, longest first."""
    values = {os.environ.get(name, "") for name in os.environ if name.endswith(_SECRET_NAMES)}
    found = {text for text in values if not text.isalpha() or len(text) >= _SHORTEST_OF_LETTERS}
    found |= _given if given is None else {*_given, given}
    found.discard(PLACEHOLDER)
    return sorted((s for s in found if len(s) >= _SHORTEST_SECRET), key=lambda s: (-len(s), s))


def redactor() -> Redactor:
    """What takes every secret of this process, as it is now, out of texts."""
    return _redactor(tuple(secrets()))


@functools.lru_cache(maxsize=16)
def _redactor(known: tuple[str, ...]) -> Redactor:
    # Keys rarely change, and a redactor is made in a millisecond.
    return Redactor(known)
