"""A key never appears: not in an answer, an error, a record, a repr or a log, in any coding."""

from __future__ import annotations

import asyncio
import base64
import html
import itertools
import json
import logging
import string
import tempfile
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import CassetteMiss, LLMNetError, ModelCallError, UsageError
from llm_net.llm import keys
from llm_net.llm.cassette import Cassette
from llm_net.llm.lite import LiteModel
from llm_net.llm.model import Chunk, Completion, Request, ToolCall
from llm_net.llm.module_llm import ModuleLLM
from llm_net.llm.recording import Recorded
from llm_net.llm.redaction import Redactor, StreamRedactor, clean
from llm_net.llm.scripted import FunctionModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.llm.conftest import RecordingServer

# LiteLLM's own types, on Pythons and pydantics that it was not made for.
pytestmark = pytest.mark.filterwarnings("ignore:Item .* on TypedDict:UserWarning")

CANARY = 'sk-"Canary\\/<é>+%20=0123456789'
"""Every character of it is written differently by somebody."""

CODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda s: s,
    "url": lambda s: quote(s, safe=""),
    "url path": quote,
    "form": quote_plus,
    "url in lower case": lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 in something": lambda s: base64.b64encode(f"user:{s}\n".encode()).decode(),
    "urlsafe base64": lambda s: base64.urlsafe_b64encode(f"a{s}".encode()).decode(),
    "json": lambda s: json.dumps(s)[1:-1],
    "json in UTF-8": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "escapes only": lambda s: "".join(
        f"\\u{int.from_bytes(u, 'big'):04x}" for u in _pairs(s.encode("utf-16-be"))
    ),
    "repr": lambda s: repr(s)[1:-1],
    "html": html.escape,
    "json with slashes": lambda s: json.dumps(s)[1:-1].replace("/", "\\/"),
    "hex": lambda s: s.encode().hex(),
    "hex in upper case": lambda s: s.encode().hex().upper(),
}


def _pairs(raw: bytes) -> list[bytes]:
    return [raw[at : at + 2] for at in range(0, len(raw), 2)]


def assert_hidden(secret: str, text: str) -> None:
    """Nothing of which the secret could be read again stands in the text."""
    for name, code in CODINGS.items():
        form = code(secret)
        if "base64" in name:  # what depends on its neighbours at both ends tells nothing
            form = form.rstrip("=")[2:-3]
        assert form not in text, name


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that a test gives are known for that test only."""
    known: set[str] = set()
    monkeypatch.setattr(keys, "_given", known)


@pytest.fixture
def canary() -> str:
    keys.remember(CANARY)
    return CANARY


# Texts.

characters = st.characters(codec="utf-8", exclude_categories=["Cs"])
secret_texts = st.text(characters, min_size=6)
surroundings = st.text(string.ascii_letters + " .,:", max_size=20)


@given(secret=secret_texts, before=surroundings, after=surroundings)
@pytest.mark.parametrize("coding", [name for name in CODINGS if "base64" not in name])
def test_a_known_secret_is_hidden_in_every_coding(
    coding: str, secret: str, before: str, after: str
) -> None:
    redact = Redactor([secret])
    if any(code(secret) in before + after for code in CODINGS.values()):
        return
    assert redact.exact(f"{before}{CODINGS[coding](secret)}{after}") in {
        f"{before}[key]{after}",
        # A secret of one letter many times is also found one letter off.
        *(f"{before}[key]{rest}{after}" for rest in (secret[-1:], "0", "1")),
    }


@given(secret=secret_texts, before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_a_known_secret_is_hidden_in_the_middle_of_base64(
    secret: str, before: bytes, after: bytes
) -> None:
    redact = Redactor([secret])
    for code in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redact.exact(code(before + secret.encode() + after).decode())
        assert "[key]" in shown
        left = "".join(part for part in shown.split("[key]"))
        assert len(left) <= len(code(before + after)) + 8


@given(
    secrets=st.lists(st.text('ab"é', min_size=2, max_size=6), min_size=1, max_size=3),
    text=st.text('ab"é\\u0e9%C3A', max_size=60),
    cuts=st.lists(st.integers(0, 60)),
)
def test_a_text_in_pieces_is_hidden_as_the_whole_is(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    """However it is cut, and however the secrets overlap."""
    redact = Redactor(secrets)
    stream = StreamRedactor(redact)
    bounds = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]
    shown = [stream.feed(piece) for piece in pieces]
    assert "".join(shown) + stream.rest() == redact.exact(text)
    # What was shown could not be taken back, so it held no secret at any time.
    for count in range(len(shown)):
        assert redact.exact("".join(shown[:count])) == "".join(shown[:count]) or "[key]" in shown


def test_a_stream_without_secrets_is_not_held_back() -> None:
    stream = StreamRedactor(Redactor([CANARY]))
    assert [stream.feed(piece) for piece in ("Good ", "morning", ".")] == ["Good ", "morning", "."]


SHAPES = [
    "sk-proj-abcdefghij0123456789",
    "pk-lf-abcdefghij0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "ASIAABCDEFGHIJKLMNOP",
    "AIza" + "a1_-" * 8 + "abc",
    "ghp_" + "a1B2" * 9,
    "gho_" + "a1B2" * 9,
    "github_pat_" + "a1_B" * 8,
    "hf_" + "aB1c" * 9,
    "xoxb-0123456789-abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_123",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIabc and then it was cut",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_looks_like_a_key_is_hidden_though_nobody_knows_it(shape: str) -> None:
    redact = Redactor([])
    assert redact(f"See: {shape}") == "See: [key]"
    assert redact(redact(shape)) == redact(shape)
    assert redact.exact(shape) == shape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer [key]"),
        ('{"authorization": "Basic dXNlcjpwYXNz"}', '{"authorization": "Basic [key]"}'),
        ("curl -H 'authorization: bearer a1b2c3d4'", "curl -H 'authorization: bearer [key]'"),
        ("with Bearer a1b2c3d4e5", "with Bearer [key]"),
    ],
)
def test_what_stands_behind_bearer_is_hidden(text: str, shown: str) -> None:
    assert Redactor([])(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "I use sk-learn-compatible-estimators in my task-force.",
        "The bearer of this letter is a flag bearer. Authorization: required.",
        "An eyJ is no token; Asia is no key; hf_hub neither.",
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_plain_words_stay(text: str) -> None:
    assert Redactor([])(text) == text


def test_words_in_the_environment_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DB_PASSWORD": "postgres", "A_TOKEN": "x1", "B_KEY": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("C_SECRET", "hunter2!")
    assert keys.redactor()("postgres x1 hunter2!") == "postgres x1 [key]"


def test_a_redactor_shows_nothing(canary: str) -> None:
    assert_hidden(canary, repr(keys.redactor()))


# Records.

call = ToolCall(name="move", arguments=json.dumps({"to": CANARY}), id=CANARY)
ECHO = Completion(text=f"It is {CANARY}!", reasoning=CANARY, tool_calls=(call,), model="m")


class Parrot:
    """A model that shows its key in the pieces of a stream."""

    name = "m"

    def complete(self, request: Request) -> Completion:
        return ECHO

    async def acomplete(self, request: Request) -> Completion:
        return ECHO

    def stream(self, request: Request) -> Iterator[Chunk]:
        for at in range(0, len(ECHO.text), 3):
            yield Chunk(ECHO.text[at : at + 3])
        yield Chunk("", ECHO)

    async def astream(self, request: Request) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk


def asking(text: str) -> Request:
    return Request(
        messages=({"role": "user", "content": text}, {"role": "assistant", "content": text}),
        tools=({"type": "function", "function": {"name": text}},),
        params={"stop": [text], "extra_headers": {"Authorization": text, "X": "y"}},
        place="firm/boss",
    )


# With an end that is in no record anyhow, as short words and digits may be.
canaries = secret_texts.map(lambda text: f"{text}Ωq7~")


@given(secret=canaries)
def test_no_record_holds_a_key_that_a_model_or_a_caller_shows(secret: str) -> None:
    def echo(request: Request) -> Completion:
        if request.prompt == "fail":
            raise ModelCallError(f"{coded} is no good")
        arguments = ToolCall(name=coded, arguments=json.dumps({"a": coded}), id=coded)
        return Completion(text=coded, reasoning=coded, tool_calls=(arguments,), model="m")

    coded = " ".join(code(secret) for code in CODINGS.values())
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_given", {secret})
        file = Path(folder) / "c.jsonl"
        with Cassette(file) as cassette:
            model = Recorded(FunctionModel(echo), cassette, name="m")
            shown = [repr(model.complete(asking(coded))), repr(list(model.stream(asking(coded))))]
            with pytest.raises(ModelCallError) as caught:
                model.complete(asking("fail"))
        with pytest.raises(CassetteMiss) as missed:
            Recorded(None, Cassette(file), name="m").complete(asking(f"{coded}?"))
        shown += [repr(caught.value), str(missed.value), file.read_text()]
    assert_hidden(secret, "\n".join(shown))


def _shown(error: BaseException) -> list[str]:
    """All that a log or a debugger's first look shows of an error."""
    link: BaseException | None = error
    parts = ["".join(traceback.format_exception(error))]
    while link is not None:
        parts += [repr(link), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return parts


def test_a_key_in_the_pieces_of_a_stream_is_hidden(canary: str, tmp_path: Path) -> None:
    with Cassette(tmp_path / "c") as cassette:
        model = Recorded(Parrot(), cassette)
        chunks = list(model.stream(asking("hi")))
    assert "".join(chunk.text for chunk in chunks) == "It is [key]!"
    assert_hidden(canary, repr(chunks))
    assert_hidden(canary, (tmp_path / "c").read_text())


def test_what_looks_like_a_key_is_in_no_piece_of_a_recorded_stream(tmp_path: Path) -> None:
    pieces = ["sk-proj-", "abcdefgh", "ij0123456789"]

    class Careless(Parrot):
        def stream(self, request: Request) -> Iterator[Chunk]:
            yield from map(Chunk, pieces)
            yield Chunk("", Completion(text="".join(pieces)))

    with Cassette(tmp_path / "c") as cassette:
        list(Recorded(Careless(), cassette).stream(asking("hi")))
    assert "abcdefgh" not in (tmp_path / "c").read_text()
    played = Recorded(None, Cassette(tmp_path / "c"), name="m").stream(asking("hi"))
    assert [chunk.text for chunk in played] == ["[key]"]


def test_headers_are_recorded_by_name_only(tmp_path: Path) -> None:
    with Cassette(tmp_path / "c") as cassette:
        Recorded(Parrot(), cassette).complete(asking("not-known-as-a-key"))
    recorded = json.loads((tmp_path / "c").read_text().splitlines()[1])["request"]
    assert recorded["params"]["extra_headers"] == ["Authorization", "X"]


def test_halves_of_characters_are_recorded_whole_or_marked(tmp_path: Path) -> None:
    answer = Completion(text="\ud83d\ude00 \ud83d", model="m")
    with Cassette(tmp_path / "c") as cassette:
        live = Recorded(FunctionModel(lambda _: answer), cassette, name="m").complete(
            asking("\ud83d")
        )
    assert live.text == "😀 \ufffd"
    played = Recorded(None, Cassette(tmp_path / "c"), name="m").complete(asking("\ud83d"))
    assert played == live


# Providers that echo what they were sent.


def echoed(form: str) -> dict[str, Any]:
    """A completion with a secret in all its corners."""
    calls = [
        {
            "id": f"id {form}",
            "type": "function",
            "function": {"name": "move", "arguments": json.dumps({"to": form})},
        }
    ]
    message = {"role": "assistant", "content": f"Your key is {form}.", "tool_calls": calls}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": form,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }


KEY = "sk-canary/0+1=" + "k3y" * 5  # a header takes no more than this


@pytest.mark.parametrize("by_hand", [True, False], ids=["given", "from the environment"])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_provider_that_echoes_its_key_brings_it_nowhere(  # noqa: PLR0917 - fixtures, by name
    coding: str,
    by_hand: bool,  # noqa: FBT001
    recorder: RecordingServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG, logger="llm_net")
    form = CODINGS[coding](KEY)
    if not by_hand:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_API_BASE", recorder.base_url)
    llm = ModuleLLM(
        "openai/m", recorder.base_url if by_hand else None, api_key=KEY if by_hand else None
    )
    recorder.answers = [
        *[(200, echoed(form))] * 2,
        (401, {"error": {"message": f"Your key {form} is no good."}}),
    ]
    shown = [repr(llm), repr(llm.model)]
    with Cassette(tmp_path / "c") as cassette:
        recorded = Recorded(llm.model, cassette)
        answer = ModuleLLM(recorded).generate("hi", [{"name": "move"}])
        for each in (answer, llm.generate("hi")):
            shown += [repr(each), str(each), repr(each.to_chat()), repr(each.choices)]
        for ask in (llm.generate, lambda text: asyncio.run(llm.agenerate(text))):
            with pytest.raises(ModelCallError, match="is no good") as caught:
                ask("hi")
            shown += _shown(caught.value)
        with pytest.raises(ModelCallError) as caught:
            ModuleLLM(recorded).generate("another")
    assert recorder.heard[0].headers["authorization"] == f"Bearer {KEY}"
    assert "[key]" in answer.text
    shown += [*_shown(caught.value), (tmp_path / "c").read_text(), caplog.text]
    assert_hidden(KEY, "\n".join(shown))


@pytest.fixture
def dripping() -> Iterator[str]:
    """The address of a server that streams the key it gets, two letters at a time."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = f"It is {self.headers['Authorization'].removeprefix('Bearer ')}!"
            call = {"index": 0, "id": said, "type": "function"}
            function = {"name": "move", "arguments": json.dumps({"to": said})}
            deltas: list[dict[str, Any]] = [
                {"role": "assistant"},
                *({"content": said[at : at + 2]} for at in range(0, len(said), 2)),
                {"tool_calls": [{**call, "function": function}]},
            ]
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for delta in deltas:
                choice = {"index": 0, "delta": delta, "finish_reason": None}
                part = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                self.wfile.write(f"data: {json.dumps({**part, 'choices': [choice]})}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own word
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_provider_that_streams_its_key_brings_it_nowhere(dripping: str) -> None:
    model = LiteModel("openai/m", api_base=dripping, api_key=KEY)
    chunks = list(model.stream(Request(messages=({"role": "user", "content": "hi"},))))
    assert "".join(chunk.text for chunk in chunks) == "It is [key]!"
    assert len(chunks) > 3
    assert_hidden(KEY, repr(chunks))


def test_an_error_of_usage_shows_no_key(canary: str, tmp_path: Path) -> None:
    with Cassette(tmp_path / "c") as cassette, pytest.raises(UsageError) as caught:
        Recorded(Parrot(), cassette).complete(Request(messages=({"content": canary.encode()},)))
    assert isinstance(caught.value, LLMNetError)
    assert canary not in str(caught.value)


def test_cleaning_an_answer_without_secrets_changes_nothing() -> None:
    answer = Completion(text="Good morning, 東京 😀.", tool_calls=(call,), model="m", cost=0.5)
    assert clean(answer, Redactor([]).exact) == answer
