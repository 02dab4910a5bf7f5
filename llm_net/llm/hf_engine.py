"""The transformers library as an engine: a model in memory, and batches that it writes.

Model tower, floor 1. The only file that imports torch and transformers, and not before a call.
Sampling is done here, row by row, because the library knows one temperature and one seed for a
whole batch.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_net.errors import ModelCallError, ModelSetupError, UsageError
from llm_net.llm import emulation
from llm_net.llm.model import Completion, Request, Usage

__all__ = ["Engine", "Row", "ending", "load"]

DEFAULT_MAX_TOKENS = 512

_PARAMS = frozenset({"max_tokens", "seed", "stop", "temperature", "timeout", "top_k", "top_p"})
_engines: dict[tuple[int, str, str], Engine] = {}
_engines_lock = threading.Lock()
_LONGEST_END_S = 20.0  # a step of a large batch

ending = threading.Event()
"""Set when the process is about to end: what is being written is then in vain."""


@dataclass(kw_only=True)
class Row:
    """One request of a batch: what it may write, and what it has written."""

    request: Request
    prompt: list[int]
    most_tokens: int
    stops: tuple[str, ...]
    until: float
    luck: Any  # a torch.Generator
    written: list[int] = field(default_factory=list[int])
    ended: str = ""

    @property
    def temperature(self) -> float:
        """0 for greedy."""
        return self.request.params.get("temperature") or 0.0


class Engine:
    """A model in memory; one batch at a time."""

    def __init__(self, place: Path | str, device: str) -> None:
        self.torch = _import("torch")
        self.transformers = _import("transformers")
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(place)}
        if isinstance(place, Path) and place.suffix == ".gguf":
            where = {"pretrained_model_name_or_path": str(place.parent), "gguf_file": place.name}
        with _no_progress_bars(self.transformers):
            self.tokenizer = self.transformers.AutoTokenizer.from_pretrained(**where)
            model = self.transformers.AutoModelForCausalLM.from_pretrained(
                **where,
                use_safetensors=True,  # the other format is a pickle
            )
        self.model = model.to(device).eval()
        told: Any = self.model.generation_config.eos_token_id  # one, several, or none
        ends: list[int | None] = [*told] if isinstance(told, list) else [told]
        self.ends = {end for end in [*ends, self.tokenizer.eos_token_id] if end is not None}
        pad: int | None = self.tokenizer.pad_token_id
        self.pad = min(self.ends, default=0) if pad is None else pad
        self.room: int | None = getattr(self.model.config, "max_position_embeddings", None)
        self.lock = threading.Lock()

    def row(self, request: Request, who: str, start: float) -> Row:
        """A request, made ready."""
        params = request.params
        if unknown := params.keys() - _PARAMS:
            raise UsageError(
                f"{who} knows no parameter {', '.join(sorted(unknown))}. "
                f"It takes {', '.join(sorted(_PARAMS))}. Leave the others out."
            )
        prompt: list[int] = self._prompt(request, who)
        most_tokens: int = params.get("max_tokens") or DEFAULT_MAX_TOKENS
        if self.room is not None and len(prompt) + most_tokens > self.room:
            raise ModelCallError(
                f"{who} was not asked: the prompt has {len(prompt)} tokens, the answer may have "
                f"{most_tokens}, and there is room for {self.room} in all. "
                "Shorten the prompt, or give a smaller max_tokens=."
            )
        stop: str | Sequence[str] = params.get("stop") or ()
        luck = self.torch.Generator()
        luck.manual_seed(params["seed"] if params.get("seed") is not None else secrets.randbits(63))
        return Row(
            request=request,
            prompt=prompt,
            most_tokens=most_tokens,
            stops=(stop,) if isinstance(stop, str) else tuple(stop),
            until=float("inf") if request.timeout is None else start + request.timeout,
            luck=luck,
        )

    def _prompt(self, request: Request, who: str) -> list[int]:
        if not self.tokenizer.chat_template:
            raise ModelSetupError(
                f"{who} has no chat template: it is not made for conversations. "
                "Take a model that is (most have -Instruct, -it or -chat in their names)."
            )
        messages = emulation.messages(request)
        schema = emulation.schema(request)
        if schema is not None:
            # No grammar keeps it to the shape, so it can only be told.
            told = f"Answer with JSON only. It must fit this JSON schema: {json.dumps(schema)}"
            if messages[0]["role"] == "system":
                messages[0]["content"] += f"\n\n{told}"
            else:
                messages.insert(0, {"role": "system", "content": told})
        try:
            text = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:
            raise ModelCallError(
                f"{who} was not asked: its chat template refuses the conversation ({error}). "
                "Some models know no system prompt, or want user and assistant to take turns."
            ) from error
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def write(self, rows: list[Row], is_in_vain: Callable[[], bool]) -> None:
        """Let the model write all rows to their ends, or until it is in vain."""
        torch = self.torch
        width = max(len(row.prompt) for row in rows)
        # Padded on the left: what is written follows the prompt without a gap.
        ids = [[self.pad] * (width - len(row.prompt)) + row.prompt for row in rows]
        mask = [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows]

        def draw(_: Any, scores: Any) -> Any:
            drawn = scores.clone()
            for index, row in enumerate(rows):
                if row.temperature and not row.ended:
                    drawn[index] = self._drawn(scores[index], row)
            return drawn

        def hear(written: Any, _: Any, **__: Any) -> Any:
            in_vain = is_in_vain()
            for row, token in zip(rows, written[:, -1].tolist(), strict=True):
                if not row.ended:
                    self._hear(row, token)
            done = [in_vain or bool(row.ended) for row in rows]
            return torch.tensor(done, device=written.device)

        try:
            with self.lock:
                self.model.generate(
                    input_ids=torch.tensor(ids, device=self.model.device),
                    attention_mask=torch.tensor(mask, device=self.model.device),
                    generation_config=self.transformers.GenerationConfig(
                        max_new_tokens=max(row.most_tokens for row in rows),
                        do_sample=False,  # the luck is drawn row by row, in the scores
                        eos_token_id=sorted(self.ends) or None,
                        pad_token_id=self.pad,
                    ),
                    logits_processor=self.transformers.LogitsProcessorList([draw]),
                    stopping_criteria=self.transformers.StoppingCriteriaList([hear]),
                )
        except RuntimeError as error:
            raise ModelCallError(
                f"torch broke off while it wrote {len(rows)} answers ({error}). There may not be "
                "memory enough: ask for fewer at once (max_batch=), or for shorter ones."
            ) from error

    def _drawn(self, scores: Any, row: Row) -> Any:
        """Scores whose highest is a draw from their distribution (the Gumbel-max trick)."""
        scores = scores.float() / row.temperature
        top_k, top_p = row.request.params.get("top_k"), row.request.params.get("top_p")
        if top_k:
            scores[scores < scores.topk(min(top_k, len(scores))).values[-1]] = -float("inf")
        if top_p is not None:
            ordered, order = scores.sort(descending=True)
            shares = ordered.softmax(-1)
            beyond = shares.cumsum(-1) - shares >= top_p
            beyond[0] = False
            scores[order[beyond]] = -float("inf")
        # On the CPU, whatever the device: a seed means the same everywhere.
        noise = self.torch.empty(len(scores)).exponential_(generator=row.luck).log()
        return scores - noise.to(scores.device)

    def _hear(self, row: Row, token: int) -> None:
        if token in self.ends:
            row.ended = "stop"
            return
        row.written.append(token)
        # A stop is found when its last token is written; no token is shorter than a byte, and a
        # character that is cut in two takes some more.
        longest = max((len(stop.encode()) for stop in row.stops), default=0)
        tail = self._text(row.written[-longest - 4 :]) if longest else ""
        if any(stop in tail for stop in row.stops):
            row.ended = "stop"
        elif len(row.written) >= row.most_tokens:
            row.ended = "length"
        elif time.monotonic() > row.until:
            row.ended = "late"

    def _text(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def answer(self, row: Row, who: str) -> Completion | Exception:
        """What a row has come to."""
        if row.ended == "late":
            return ModelCallError(
                f"{who} had written {len(row.written)} tokens after {row.request.timeout:g} s, the "
                "timeout of this call. Raise timeout=, or ask for less (a smaller max_tokens=)."
            )
        written = self._text(row.written)
        cuts = [at for stop in row.stops if (at := written.find(stop)) >= 0]
        text, calls = emulation.read_answer(written[: min(cuts, default=None)], row.request)
        return Completion(
            text=text,
            tool_calls=calls,
            usage=Usage(prompt_tokens=len(row.prompt), completion_tokens=len(row.written)),
            cost=0.0,
            finish_reason="tool_calls" if calls else row.ended or "abandoned",
            model=who,
        )


def load(name: str, find: Callable[[], Path | str], device: str | None) -> Engine:
    """The process's one copy of a model."""
    torch = _import("torch")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    key = (os.getpid(), name, device)  # a forked child has a copy, whose lock may be held
    with _engines_lock:
        if key not in _engines:
            place = find()
            try:
                _engines[key] = Engine(place, device)
            except ModelSetupError:
                raise
            except Exception as error:
                raise ModelSetupError(
                    f"transformers could not load {place} for {name!r}: {error} "
                    "Check the name or the path, and that it holds safetensors or GGUF weights."
                ) from error
            atexit.register(_end, _engines[key])
        return _engines[key]


def _end(engine: Engine) -> None:
    """Let the step that is being computed come to its end: torch aborts if Python is gone."""
    ending.set()
    engine.lock.acquire(timeout=_LONGEST_END_S)


def _no_bar(items: Any, **_: Any) -> Any:
    return items


@contextlib.contextmanager
def _no_progress_bars(transformers: Any) -> Generator[None]:
    """Loading draws bars; a library is silent."""
    bars = transformers.utils.logging
    had_bars = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    # The reader of GGUF files does not ask whether there should be one.
    gguf = _import("transformers.modeling_gguf_pytorch_utils")
    its_bar = gguf.tqdm
    gguf.tqdm = _no_bar
    try:
        yield
    finally:
        gguf.tqdm = its_bar
        if had_bars:
            bars.enable_progress_bar()


def _import(module: str) -> Any:
    # Read when torch is loaded: its threads else wait by spinning, and where another process wants
    # the core, they starve each other until hardly a token comes.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # Untyped, and an extra: not imported before it is used.
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelSetupError(
            f"'hf/…' models need the extra 'hf', which is not installed ({error}). "
            "Type: pip install 'llm-net[hf]'"
        ) from error
