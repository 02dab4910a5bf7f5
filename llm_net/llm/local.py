"""The embedded model: a small real language model inside this process.

Model tower, floor 2. Needs the extra `llm-net[local]` and the weights (`llm_net.llm.weights`). It
is a toy: right for trying things out, for tests, and for showing that shapes and tools are kept;
wrong for anything that hangs on its judgement. Requests run side by side in the slots of one engine
for each model file, which shares what they have in common of their prompts.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import importlib
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llm_net.errors import ModelCallError, ModelSetupError, UsageError
from llm_net.llm import emulation, weights
from llm_net.llm.model import Chunk, Completion, Request, Usage
from llm_net.llm.streams import afollow, follow
from llm_net.llm.waiting import await_future, in_thread, wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from concurrent.futures import Future

__all__ = ["LocalModel", "Server", "server"]

SLOTS = 4
SLOT_TOKENS = 4096
DEFAULT_MAX_TOKENS = 512
PROMPT_CACHE_MIB = 256

_PARAMS = frozenset(
    {
        "cache_prompt",
        "frequency_penalty",
        "grammar",
        "logit_bias",
        "max_tokens",
        "min_p",
        "presence_penalty",
        "repeat_penalty",
        "seed",
        "stop",
        "temperature",
        "timeout",
        "top_k",
        "top_p",
    }
)
_engines: dict[tuple[int, Path], _Engine] = {}
_engines_lock = threading.Lock()
_under_way: set[tuple[int, Future[Completion]]] = set()
_ending = threading.Event()
_LONGEST_END_S = 20.0  # a long prompt that is just being read


def _keep_silent(text: str) -> None:
    """Tell nobody: the answer is wanted whole."""


@dataclass(frozen=True)
class Server:
    """The engine's own server, which speaks OpenAI's protocol on the loopback address.

    Attributes:
        base_url: For `ModuleLLM("openai/smollm2-135m", base_url, api_key=…)`.
        api_key: Made anew in each process: other users of the machine do not know it.
    """

    base_url: str
    api_key: str = field(repr=False)


class LocalModel:
    """A GGUF file, run by llama.cpp in this process.

    Args:
        name: `local/smollm2-135m`; or `local/` and a path, absolute or with a leading dot, of
            another GGUF file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = _path_finder(name)

    def complete(self, request: Request) -> Completion:
        """Ask the engine, which is loaded if this is the first time.

        Raises:
            UsageError: If a parameter is unknown to the engine.
            ModelSetupError: If the extra or the weights are missing.
            ModelCallError: If the prompt is too long, the time over, or the schema too odd.
        """
        abandoned = threading.Event()
        # In a thread even without a timeout: here a Ctrl-C is heard, inside the engine it is not.
        future = self._start(request, abandoned)
        try:
            return wait(future, timeout=request.timeout, who=self.name)
        finally:
            abandoned.set()

    async def acomplete(self, request: Request) -> Completion:
        """Ask the engine beside the event loop; raises what `complete` does."""
        abandoned = threading.Event()
        future = self._start(request, abandoned)
        try:
            return await await_future(future, timeout=request.timeout, who=self.name)
        finally:
            abandoned.set()

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Ask the engine, token by token; raises what `complete` does."""
        return follow(self._pieces(request), timeout=request.timeout, who=self.name)

    def astream(self, request: Request) -> AsyncIterator[Chunk]:
        """Ask the engine, token by token, beside the event loop; raises what `complete` does."""
        return afollow(self._pieces(request), timeout=request.timeout, who=self.name)

    async def _pieces(self, request: Request) -> AsyncGenerator[Chunk, None]:
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[str] = asyncio.Queue()
        abandoned = threading.Event()

        def hear(text: str) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, text)

        # With tools, what is written is JSON around a call or a reply, and no text of the answer.
        is_text = not emulation.offers_tools(request)
        future = self._start(request, abandoned, hear if is_text else _keep_silent)
        future.add_done_callback(lambda _: hear(""))
        try:
            while text := await heard.get():
                yield Chunk(text)
            completion = await asyncio.wrap_future(future)
            yield Chunk("" if is_text else completion.text, completion)
        finally:
            abandoned.set()

    def _start(
        self,
        request: Request,
        abandoned: threading.Event,
        tell: Callable[[str], None] = _keep_silent,
    ) -> Future[Completion]:
        future = in_thread(lambda: self._ask(request, abandoned, tell))
        under_way = (os.getpid(), future)
        _under_way.add(under_way)
        future.add_done_callback(lambda _: _under_way.discard(under_way))
        return future

    def _ask(
        self, request: Request, abandoned: threading.Event, tell: Callable[[str], None]
    ) -> Completion:
        body = self._body(request)
        answer = _engine(self._path()).chat(body, abandoned.is_set, tell)
        text, calls = emulation.read_answer(answer.text, request)
        return Completion(
            text=text,
            tool_calls=calls,
            usage=answer.usage,
            cost=0.0,
            finish_reason="tool_calls" if calls else answer.finish_reason,
            model=self.name,
        )

    def _body(self, request: Request) -> dict[str, Any]:
        params = dict(request.params)
        extra: dict[str, Any] = params.pop(
            "extra_body", {}
        )  # as OpenAI's client has it: sent unchecked
        if unknown := params.keys() - _PARAMS:
            raise UsageError(
                f"{self.name} knows no parameter {', '.join(sorted(unknown))}. It takes "
                f"{', '.join(sorted(_PARAMS))}; what else llama.cpp takes goes to extra_body={{…}}."
            )
        params.pop("timeout", None)
        body: dict[str, Any] = {"max_tokens": DEFAULT_MAX_TOKENS, **params, **extra}
        body["messages"] = emulation.messages(request)
        schema = emulation.schema(request)
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            }
        return body


def server(name: str = "local/smollm2-135m") -> Server:
    """The engine's own OpenAI-compatible server; loads the engine if need be.

    For tests of what speaks to such servers. It lives in this process and ends with it.

    Raises:
        ModelSetupError: If the extra or the weights are missing.
    """
    return _engine(_path_finder(name)()).server


def _path_finder(name: str) -> Callable[[], Path]:
    """How to find the file when it is needed; whether the name makes sense is found out now."""
    model = name.removeprefix("local/")
    if model == weights.SMOLLM2.name:
        return weights.find
    if model.startswith(("/", ".", "~")) or model.endswith(".gguf"):
        path = Path(model).expanduser().resolve()
        return lambda: _checked(path)
    raise UsageError(
        f"llm_model={name!r}: there is no embedded model {model!r}. There is "
        f"'local/{weights.SMOLLM2.name}'; or give a file: 'local//path/to/model.gguf', "
        "'local/./model.gguf'."
    )


def _checked(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelSetupError(
            f"The model file {path} cannot be read: {error}. Check the path: after 'local/' it is "
            "absolute, or relative to the working directory with a leading './'."
        ) from error
    if magic != b"GGUF":
        raise ModelSetupError(
            f"{path} is no GGUF file: it begins with {magic!r}. The embedded engine reads no other "
            "format. Give a .gguf file of an instruction-tuned model."
        )
    return path


@dataclass(frozen=True, kw_only=True)
class _Answer:
    text: str
    finish_reason: str
    usage: Usage


class _Engine:
    """llama.cpp with one model file, its slots, and its server."""

    def __init__(self, path: Path) -> None:
        xllamacpp = _xllamacpp()
        self.path = path
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = SLOTS
        params.n_ctx = SLOTS * SLOT_TOKENS
        # One core stays for Python: without it the threads of the engine wait for each other.
        params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
        params.cpuparams_batch.n_threads = params.cpuparams.n_threads
        params.cache_ram_mib = PROMPT_CACHE_MIB  # else it may grow to gigabytes
        params.verbosity = -1  # else llama.cpp writes to stderr, past Python
        key = secrets.token_hex(16)
        # The server always runs. Others on this machine shall neither use it nor read prompts.
        params.api_keys = [key]
        params.cors_origins = ""
        params.endpoint_slots = False
        params.ui = False
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ModelSetupError(
                f"llama.cpp could not load {path}: {error} The file may be damaged, of a kind that "
                f"it does not know, or too big for the memory. For the embedded model, type: "
                f"{weights.COMMAND}"
            ) from error
        self.server = Server(f"{self._server.listening_address}/v1", key)

    def chat(
        self,
        body: dict[str, Any],
        is_abandoned: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> _Answer:
        """One chat completion; ends early, and frees its slot, if nobody waits any more."""
        written: list[str] = []
        last: dict[str, Any] = {}

        def is_in_vain() -> bool:
            return is_abandoned() or _ending.is_set()

        def hear(chunk: Any) -> bool:
            # llama.cpp swallows what is raised here, so nothing may be: notes only.
            for part in cast("Sequence[Any]", chunk) if isinstance(chunk, list) else [chunk]:
                last.update({key: part[key] for key in ("error", "usage") if part.get(key)})
                for choice in part.get("choices", ()):
                    if text := choice.get("delta", {}).get("content"):
                        written.append(text)
                        tell(text)
                    if choice.get("finish_reason"):
                        last["finish_reason"] = choice["finish_reason"]
            return is_in_vain()

        streaming = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            self._server.handle_chat_completions({**body, **streaming}, hear)
        except (RuntimeError, ValueError) as error:
            raise self._refused(str(error)) from error
        if "error" in last:
            raise self._refused(str(last["error"].get("message", last["error"])))
        if "finish_reason" not in last and not is_in_vain():
            raise self._refused("the answer ended before it was finished")

        usage = last.get("usage", {})
        return _Answer(
            text="".join(written),
            finish_reason=last.get("finish_reason", "abandoned"),
            usage=Usage(
                prompt_tokens=usage.get("prompt_tokens", 0),
                completion_tokens=usage.get("completion_tokens", 0),
                cached_tokens=usage.get("prompt_tokens_details", {}).get("cached_tokens", 0),
            ),
        )

    def _refused(self, why: str) -> ModelCallError:
        return ModelCallError(
            f"The embedded engine ({self.path.name}) did not answer: {' '.join(why.split())}. "
            f"A request has room for {SLOT_TOKENS} tokens, prompt and answer together, and its "
            "schema must be one that can be made a grammar. Shorten the prompt, or simplify the "
            "schema (no patterns, no recursion)."
        )


def _end() -> None:
    """Let calls in the engine come back before Python is gone: it aborts if they come after."""
    _ending.set()
    mine = [future for process, future in list(_under_way) if process == os.getpid()]
    concurrent.futures.wait(mine, timeout=_LONGEST_END_S)


def _engine(path: Path) -> _Engine:
    """The process's engine for a file, loaded once."""
    key = (os.getpid(), path)  # a forked child has a copy of the engine, and none of its threads
    with _engines_lock:
        if key not in _engines:
            _engines[key] = _Engine(path)
            atexit.register(_end)
        return _engines[key]


def _xllamacpp() -> Any:
    # Read when the library is loaded: its threads else wait by spinning, and starve each other (and
    # everybody) by a factor of forty when another process wants the core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # Untyped, and an extra: not imported before it is used.
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ModelSetupError(
            f"The embedded model needs the extra 'local', which is not installed ({error}). "
            "Type: pip install 'llm-net[local]'"
        ) from error
