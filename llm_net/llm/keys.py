"""Which key may go where, and that no text shows one.

Model tower, floor 0. Pure: knows addresses and environment variables, calls nobody.

The rule: a key that was given by hand goes where its owner said. A key from the environment belongs
to its provider, so it goes to the provider's own host, or to the base that the environment names as
well, and nowhere else: an `api_base` in some example's code must not be enough to collect keys.
"""

from __future__ import annotations

import base64
import json
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ANY_OF",
    "PLACEHOLDER",
    "WITHOUT_PLACEHOLDER",
    "Redactor",
    "blank_key",
    "is_own_place",
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
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(_ID)?$")
_SHORTEST_SECRET = 6  # below, it is a word like `none`, and hiding it would maim the text


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


def blank_key(provider: str) -> str | None:
    """The provider's variable, if it is set but empty, as an unfilled `.env` leaves it."""
    name = f"{provider.upper()}_API_KEY"
    value = os.environ.get(name)
    return name if value is not None and not value.strip() else None


def secrets(given: str | None) -> list[str]:
    """The key given by hand, and whatever in the environment looks like one, longest first."""
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    if given:
        found.add(given)
    found.discard(PLACEHOLDER)
    return sorted((s for s in found if len(s) >= _SHORTEST_SECRET), key=len, reverse=True)


class Redactor:
    """Takes secrets out of texts: plain, URL-encoded, or within base64.

    Args:
        secrets: What must not be seen, longer ones before those that they contain.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = [form for secret in secrets for form in _forms(secret)]
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    def __call__(self, text: str) -> str:
        """The text with `[key]` in place of each secret."""
        return text if self._pattern is None else self._pattern.sub("[key]", text)

    def __repr__(self) -> str:
        return "Redactor(…)"


def _forms(secret: str) -> list[str]:
    forms = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret)]
    forms += [repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]]
    raw = secret.encode()
    # What precedes the secret shifts its base64, so it has three looks; at both ends the characters
    # that also depend on the neighbours are left away.
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).decode("ascii").rstrip("=")
        core = coded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        forms += [core, core.replace("+", "-").replace("/", "_")]
    return sorted(set(forms), key=len, reverse=True)
