"""No secret leaves: known keys in whatever coding, and what looks like a key.

Model tower, floor 0. Pure: knows completions. One redactor stands before every sink: errors,
records, logs, traces.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llm_net.llm.model import Completion

__all__ = ["HIDDEN", "Hide", "Redactor", "StreamRedactor", "clean", "clean_text"]

Hide: TypeAlias = Callable[[str], str]
"""Takes the secrets out of a text."""

HIDDEN = "[key]"
"""What stands where a secret stood."""

# Keys that nobody told us of: of the shapes that providers give to theirs. What keeps a word before
# it stands in the group.
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"[spr]k-(?=[A-Za-z_-]*\d)[\w-]{16,}"
    r"|A[KS]IA[0-9A-Z]{16}"
    r"|AIza[\w-]{35}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_\w{22,}"
    r"|hf_[A-Za-z0-9]{30,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"
    r")"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?i:\b(authorization\W{1,5}(?:bearer|basic|token) +|bearer +(?=[^\s\"']*\d)))[\w.~+/=-]{6,}",
    re.ASCII | re.DOTALL,
)
# Every one of them holds one of these, in whatever case; mostly none is there, and looking for
# these takes a fiftieth of the time.
_HINTS = (
    *("sk-", "pk-", "rk-", "akia", "asia", "aiza", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    *("github_pat_", "hf_", "xox", "eyj", "private key-----", "authorization", "bearer"),
)


class Redactor:
    """Takes secrets out of texts.

    A known secret is found plain, URL-encoded, in base64 (also in the middle of something longer),
    in hexadecimal, and escaped for JSON, Python or HTML. After that goes what has the shape of a
    key: OpenAI's, Amazon's, GitHub's, a JSON web token, a private key, `Authorization: Bearer …`.

    Args:
        secrets: What must not be seen.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # Longer ones first: one that is the beginning of another must not leave the other's rest.
        forms = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))
        self.longest = len(self._forms[0]) if self._forms else 1

    def __call__(self, text: str) -> str:
        """The text with `[key]` in place of each secret, known or of a known shape."""
        shown = self.exact(text)
        lower = shown.lower()
        return _SHAPES.sub(_hide, shown) if any(hint in lower for hint in _HINTS) else shown

    def exact(self, text: str) -> str:
        """The text with `[key]` in place of each known secret; nothing else is touched."""
        # One look for each form is many times faster than the pattern, and mostly there is none.
        if any(form in text for form in self._forms):
            return self._pattern.sub(HIDDEN, text)
        return text

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Where known secrets begin and end."""
        return (match.span() for match in self._pattern.finditer(text)) if self._forms else iter(())

    @functools.cached_property
    def beginnings(self) -> frozenset[str]:
        """Every text with which a known secret may begin, itself not included."""
        return frozenset(form[:size] for form in self._forms for size in range(1, len(form)))

    def __repr__(self) -> str:
        return "Redactor(…)"


class StreamRedactor:
    """Takes known secrets out of a text that comes in pieces, a secret perhaps in several of them.

    What may be the beginning of a secret is held back until the next piece shows whether it is.

    Args:
        redact: Whose secrets.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._beginnings = redact.beginnings
        self._longest = redact.longest - 1
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may be shown now."""
        text = self._held + piece
        sizes = range(min(self._longest, len(text)), 0, -1)
        size = next((size for size in sizes if text[-size:] in self._beginnings), 0)
        cut = len(text) - size
        for start, end in self._redact.matches(text):
            if start < cut < end:  # a whole secret, which may still turn out to be a longer one
                cut = start
        self._held = text[cut:]
        return self._redact.exact(text[:cut])

    def rest(self) -> str:
        """What was held back, now that nothing follows."""
        text, self._held = self._held, ""
        return self._redact.exact(text)


def clean(completion: Completion, hide: Hide) -> Completion:
    """An answer as a model may give it: clean in each of its texts, and not parsed by anyone."""
    return replace(
        completion,
        text=clean_text(completion.text, hide),
        reasoning=clean_text(completion.reasoning, hide),
        tool_calls=tuple(
            replace(
                call,
                name=clean_text(call.name, hide),
                arguments=clean_text(call.arguments, hide),
                id=clean_text(call.id, hide),
            )
            for call in completion.tool_calls
        ),
        finish_reason=clean_text(completion.finish_reason, hide),
        parsed=None,
    )


def clean_text(text: str, hide: Hide) -> str:
    """A text without secrets, and without halves of characters, which no file could hold."""
    shown = hide(text)
    if not shown.isascii():
        shown = shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return shown


def _hide(match: re.Match[str]) -> str:
    return (match[1] or "") + HIDDEN


def _forms(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    escaped = json.dumps(secret)[1:-1]
    forms = {secret, escaped, json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms |= {repr(secret)[1:-1], ascii(secret)[1:-1], html.escape(secret), quote_plus(raw)}
    # Browsers and Go escape what could end a script, PHP escapes slashes.
    forms |= {escaped.replace("/", "\\/"), re.sub("[<>&']", _unicode_escape, escaped)}
    forms.add("".join(f"\\u{unit:04x}" for unit in _units(secret)))
    for safe in ("", "/", "/:", "!'()*"):
        coded = quote(raw, safe=safe)
        forms |= {coded, re.sub("%..", lambda match: match[0].lower(), coded)}
    forms |= {"".join(f"%{byte:02{case}}" for byte in raw) for case in "xX"}
    forms |= {raw.hex(), raw.hex().upper()}
    # What precedes the secret shifts its base64, so it has three looks; at both ends the characters
    # that also depend on the neighbours are left away.
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).decode("ascii").rstrip("=")
        core = coded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return forms - {""}


def _unicode_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _units(text: str) -> memoryview[int]:
    """The UTF-16 units that JSON escapes a text with."""
    return memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
