"""Answers in pieces: from a script, from the embedded engine, and over the wire."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net import Deterministic, GenAgent, GenNetwork, Message
from llm_net.errors import ModelCallError, UnscriptedCall, UsageError
from llm_net.llm.lite import LiteModel
from llm_net.llm.local import LocalModel, server
from llm_net.llm.model import Chunk, Completion, Model, Request, Usage
from llm_net.llm.scripted import FunctionModel, ScriptedModel
from llm_net.llm.streams import Streaming, afollow, astreamed, follow, streamed
from tests.waiting import DEADLINE_S

# LiteLLM reads every attribute of a piece. Pydantic's warning about that is switched off when it is
# imported, and on again by pytest for the next test.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the .* attribute on the instance")

KEY = "sk-proj-very-secret-0123456789"
MOVE = {
    "name": "move",
    "description": "Move one step.",
    "parameters": {"type": "object", "properties": {"to": {"enum": ["north", "south"]}}},
}


def ask(text: str, **params: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), params=params)


def read(model: Model, request: Request) -> list[Chunk]:
    return list(streamed(model, request))


def aread(model: Model, request: Request) -> list[Chunk]:
    async def main() -> list[Chunk]:
        return [chunk async for chunk in astreamed(model, request)]

    return asyncio.run(main())


READERS = pytest.mark.parametrize("reader", [read, aread])
Reader = Callable[[Model, Request], list[Chunk]]


def whole(chunks: list[Chunk]) -> Completion:
    """The completion of a stream that keeps the rules."""
    assert all(chunk.completion is None for chunk in chunks[:-1])
    completion = chunks[-1].completion
    assert completion is not None
    assert "".join(map(str, chunks)) == completion.text
    return completion


# Models in the process.


@given(st.text())
def test_every_script_s_text_comes_word_by_word_and_loses_nothing(text: str) -> None:
    chunks = read(ScriptedModel([text]), ask("x"))
    assert whole(chunks).text == text
    assert all(len(str(chunk).split()) <= 1 for chunk in chunks)


@READERS
def test_a_script_that_holds_no_reply_says_so_when_it_is_read(reader: Reader) -> None:
    with pytest.raises(UnscriptedCall):
        reader(ScriptedModel([]), ask("x"))


@READERS
def test_a_model_that_cannot_stream_gives_one_piece(reader: Reader) -> None:
    model = FunctionModel(lambda request: "one two")
    assert not isinstance(model, Streaming)
    (chunk,) = reader(model, ask("x"))
    assert (str(chunk), whole([chunk]).text) == ("one two", "one two")


@pytest.mark.real_llm
@READERS
def test_the_embedded_engine_streams_its_tokens(reader: Reader) -> None:
    chunks = reader(LocalModel("local/smollm2-135m"), ask("Say hello.", max_tokens=8))
    completion = whole(chunks)
    assert completion.usage.completion_tokens >= len(chunks) - 1 > 1
    assert completion.usage.prompt_tokens > 10
    assert (completion.model, completion.cost) == ("local/smollm2-135m", 0)


@pytest.mark.real_llm
def test_what_the_engine_writes_around_a_tool_call_is_not_text() -> None:
    request = Request(
        messages=ask("Go north.").messages,
        tools=({"type": "function", "function": MOVE},),
        tool_choice="required",
    )
    completion = whole(read(LocalModel("local/smollm2-135m"), request))
    assert [call.name for call in completion.tool_calls] == ["move"]
    assert completion.text == ""


@pytest.mark.real_llm
@READERS
def test_a_parameter_that_the_engine_does_not_know_is_refused(reader: Reader) -> None:
    with pytest.raises(UsageError, match="knows no parameter flavour"):
        reader(LocalModel("local/smollm2-135m"), ask("x", flavour="sweet"))


@pytest.mark.real_llm
def test_to_leave_a_stream_of_the_engine_ends_the_call() -> None:
    model = LocalModel("local/smollm2-135m")
    story = ask("Tell a long story.", max_tokens=4000)
    # Each would take minutes, and there are but four slots.
    for _ in range(8):
        stream = model.stream(story)
        assert str(next(stream))
        cast("Any", stream).close()
    assert model.complete(ask("Say hello.", max_tokens=2)).text


# Anything that lives on the background loop.


@READERS
def test_to_leave_closes_the_source_though_others_hold_it(reader: Reader) -> None:
    closed = threading.Event()

    async def endless() -> AsyncGenerator[Chunk, None]:
        try:
            while True:
                yield Chunk("more ")
        finally:
            closed.set()

    source = endless()
    if reader is read:
        stream = follow(source, timeout=None, who="it")
        assert [str(next(stream)) for _ in range(3)] == ["more "] * 3
        cast("Any", stream).close()
    else:

        async def main() -> None:
            stream = afollow(source, timeout=None, who="it")
            assert [str(await anext(stream)) for _ in range(3)] == ["more "] * 3
            await cast("Any", stream).aclose()

        asyncio.run(main())
    assert closed.wait(DEADLINE_S)


@READERS
def test_a_source_s_own_timeout_is_not_taken_for_the_call_s(reader: Reader) -> None:
    async def failing() -> AsyncGenerator[Chunk, None]:
        yield Chunk("a")
        raise TimeoutError("its own")

    class Late:
        def complete(self, request: Request) -> Completion:
            raise AssertionError("asked for the whole")

        async def acomplete(self, request: Request) -> Completion:
            raise AssertionError("asked for the whole")

        def stream(self, request: Request) -> Iterator[Chunk]:
            return follow(failing(), timeout=DEADLINE_S, who="it")

        def astream(self, request: Request) -> AsyncIterator[Chunk]:
            return afollow(failing(), timeout=DEADLINE_S, who="it")

    with pytest.raises(TimeoutError, match="its own"):
        reader(Late(), ask("x"))


# Over the wire.


def piece(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """A piece of an answer as OpenAI's protocol has it."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"} | {
        "choices": [choice]
    }


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
GREETING = [
    piece({"role": "assistant", "content": ""}),
    piece({"content": "Good"}),
    piece({"content": " "}),
    piece({"content": "morning."}),
    piece({}, "stop"),
    {**piece({}), "choices": [], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 2}}},
]


@dataclass
class StreamingServer:
    """A server on the loopback address that streams what it is told.

    Attributes:
        pieces: What it sends; an exception breaks the connection, an event is waited for.
        heard: The bodies of the requests.
        was_left: Set when somebody went away before the end.
    """

    base_url: str = ""
    pieces: list[Any] = field(default_factory=list[Any])
    heard: list[Any] = field(default_factory=list[Any])
    was_left: threading.Event = field(default_factory=threading.Event)
    status: int = 200


@pytest.fixture
def wire() -> Iterator[StreamingServer]:
    record = StreamingServer(pieces=[*GREETING])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            record.heard.append(json.loads(self.rfile.read(length)))
            self.send_response(record.status)
            if record.status != 200:
                refusal = json.dumps({"error": {"message": f"no {KEY}"}}).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(refusal)))
                self.end_headers()
                self.wfile.write(refusal)
                return
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                self.send_pieces()
            except OSError:
                record.was_left.set()
                self.close_connection = True

        def send_pieces(self) -> None:
            for part in record.pieces:
                if isinstance(part, threading.Event):
                    # Whether the other side is still there shows only when something is sent.
                    for _ in range(1000):
                        if part.wait(DEADLINE_S / 1000):
                            break
                        self.say(b": still here\n\n")
                elif part is None:
                    self.close_connection = True  # in the middle of a chunked body
                    return
                else:
                    self.say(f"data: {json.dumps(part)}\n\n".encode())
            self.say(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def say(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own word
            pass

    Handler.protocol_version = "HTTP/1.1"
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    record.base_url = f"http://127.0.0.1:{http.server_port}/v1"
    yield record
    http.shutdown()
    http.server_close()
    thread.join()


def model_at(wire: StreamingServer, name: str = "openai/m") -> LiteModel:
    return LiteModel(name, api_base=wire.base_url, api_key=KEY)


@READERS
def test_pieces_come_as_they_are_sent_and_the_whole_at_the_end(
    wire: StreamingServer, reader: Reader
) -> None:
    chunks = reader(model_at(wire), ask("Greet me.", seed=3))
    assert [str(chunk) for chunk in chunks] == ["Good", " ", "morning.", ""]
    completion = whole(chunks)
    assert completion.usage == Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)
    assert (completion.finish_reason, completion.model) == ("stop", "openai/m")
    assert completion.cost is None  # nobody knows the price of m
    assert wire.heard[0]["stream"] is True
    assert wire.heard[0]["stream_options"] == {"include_usage": True}
    assert wire.heard[0]["seed"] == 3


@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "groq/llama-3.1-8b-instant"])
def test_a_known_model_has_a_price_in_a_stream_too(wire: StreamingServer, name: str) -> None:
    cost = whole(read(model_at(wire, name), ask("Greet me."))).cost
    assert cost is not None
    assert 0 < cost < 0.001


def test_a_piece_is_handed_out_before_the_next_is_there(wire: StreamingServer) -> None:
    gate = threading.Event()
    wire.pieces.insert(2, gate)
    stream = model_at(wire).stream(ask("Greet me."))
    assert str(next(stream)) == "Good"
    gate.set()
    assert "".join(map(str, stream)) == " morning."


@READERS
def test_tool_calls_are_put_together(wire: StreamingServer, reader: Reader) -> None:
    def call(index: int, arguments: str, **rest: str) -> dict[str, Any]:
        function = {"arguments": arguments, **({"name": rest.pop("name")} if rest else {})}
        return piece({"tool_calls": [{"index": index, "function": function, **rest}]})

    wire.pieces = [
        piece({"role": "assistant", "content": None}),
        call(0, "", name="move", id="c1", type="function"),
        call(0, '{"to": '),
        call(0, '"north"}'),
        call(1, "", name="wait", id="c2", type="function"),
        call(1, "{}"),
        piece({}, "tool_calls"),
        GREETING[-1],
    ]
    completion = whole(reader(model_at(wire), ask("Go.")))
    calls = [(call.name, call.arguments, call.id) for call in completion.tool_calls]
    assert calls == [("move", '{"to": "north"}', "c1"), ("wait", "{}", "c2")]
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")


def test_without_usage_from_the_provider_it_is_estimated(wire: StreamingServer) -> None:
    del wire.pieces[-1]
    usage = whole(read(model_at(wire), ask("Greet me."))).usage
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0


@READERS
def test_to_leave_early_closes_the_connection(wire: StreamingServer, reader: Reader) -> None:
    wire.pieces.insert(2, threading.Event())  # never set
    model = model_at(wire)
    if reader is read:
        stream = model.stream(ask("Greet me."))
        assert str(next(stream)) == "Good"
        cast("Any", stream).close()
    else:

        async def main() -> None:
            stream = model.astream(ask("Greet me."))
            assert str(await anext(stream)) == "Good"
            await cast("Any", stream).aclose()

        asyncio.run(main())
    assert wire.was_left.wait(DEADLINE_S)


def test_a_reader_that_is_cancelled_closes_the_connection(wire: StreamingServer) -> None:
    wire.pieces.insert(2, threading.Event())  # never set

    async def main() -> None:
        first = asyncio.Event()

        async def follow() -> None:
            async for _ in model_at(wire).astream(ask("Greet me.")):
                first.set()

        following = asyncio.ensure_future(follow())
        await first.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(main())
    assert wire.was_left.wait(DEADLINE_S)


@READERS
@pytest.mark.parametrize("breaking", [None, {"error": {"message": f"no {KEY}", "code": 500}}])
def test_an_answer_that_breaks_off_is_an_error_without_the_key(
    wire: StreamingServer, reader: Reader, breaking: Any
) -> None:
    wire.pieces[3:] = [breaking]
    with pytest.raises(ModelCallError, match="openai/m") as caught:
        reader(model_at(wire), ask("Greet me."))
    _check_no_key(caught.value)


@READERS
def test_a_refusal_is_an_error_without_the_key(wire: StreamingServer, reader: Reader) -> None:
    wire.status = 401
    with pytest.raises(ModelCallError, match="status 401") as caught:
        reader(model_at(wire), ask("Greet me."))
    _check_no_key(caught.value)


def _check_no_key(error: BaseException) -> None:
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = "".join(shown.format())
    # The fixture that holds the pieces to be sent is a local of the test, not of what was called.
    ours = ours.partition("llm_net/llm")[2]
    assert ours
    assert KEY not in ours
    assert KEY not in f"{error!r} {vars(error)} {error.__cause__!r} {error.__context__!r}"


@READERS
def test_the_timeout_is_for_the_whole_answer(wire: StreamingServer, reader: Reader) -> None:
    read(model_at(wire), ask("LiteLLM is imported now, which takes seconds."))
    wire.pieces.insert(3, threading.Event())  # never set
    with pytest.raises(ModelCallError, match=r"not finished its answer after 0\.5 s"):
        reader(model_at(wire), ask("Greet me.", timeout=0.5))
    assert wire.was_left.wait(DEADLINE_S)


@pytest.mark.real_llm
@READERS
def test_a_real_server_s_tokens_arrive(reader: Reader) -> None:
    real = server()
    model = LiteModel("openai/smollm2-135m", api_base=real.base_url, api_key=real.api_key)
    chunks = reader(model, ask("Say hello.", max_tokens=8, temperature=0))
    completion = whole(chunks)
    assert len(chunks) > 3
    assert 0 < completion.usage.completion_tokens <= 8
    assert completion.finish_reason in {"stop", "length"}


# In a deterministic run.


class Reading(GenAgent):
    async def astep(self, message: Message) -> AsyncIterator[str]:
        async for chunk in LocalModel("local/smollm2-135m").astream(ask("Hi.", max_tokens=3)):
            yield str(chunk)


@pytest.mark.real_llm
def test_an_agent_of_a_deterministic_run_may_follow_a_stream() -> None:
    net = GenNetwork(agents=[Reading()], entry="reading")
    run = net.run("go", runtime=Deterministic(1))
    assert run.failures == ()
    assert len(run.outputs) > 1
