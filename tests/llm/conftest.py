"""What the tests of the models stand on: real weights, and a real server that remembers."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from llm_net.llm import weights

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _embedded_weights() -> None:
    """The weights, fetched if this machine has none: tests on the real model are not skipped."""
    weights.fetch()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has keys; none may be used, and no test may hang on one."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL", "_TOKEN")):
            monkeypatch.delenv(name)


@dataclass
class Heard:
    """One request that the recording server got; the names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def raw(self) -> str:
        """All that was sent, to look for what should not have been."""
        headers = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        return f"{self.path}\n{headers}\n{self.body.decode()}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RecordingServer:
    """An HTTP server on the loopback address that answers what it is told, and remembers.

    Attributes:
        heard: The requests so far.
        answers: Status and body, used in order; the last one stays.
        gate: Cleared, requests wait before they are answered.
    """

    base_url: str = ""
    heard: list[Heard] = field(default_factory=list[Heard])
    answers: list[tuple[int, Any]] = field(default_factory=list[tuple[int, Any]])
    gate: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: Heard) -> tuple[int, Any]:
        self.heard.append(request)
        self.gate.wait(30)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def chat(text: str) -> dict[str, Any]:
    """A chat completion as OpenAI's protocol has it."""
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    }


@pytest.fixture
def recorder() -> Iterator[RecordingServer]:
    record = RecordingServer(answers=[(200, chat("Good morning."))])
    record.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            heard = Heard(self.path, headers, self.rfile.read(length))
            status, answer = record.answer(heard)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "0")  # retries need not be waited for
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own word
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    record.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    yield record
    record.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()
