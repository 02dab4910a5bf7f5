"""Models of the transformers library in this process, asked in true batches.

Model tower, floor 2. Needs the extra `llm-net[hf]`. Sixteen prompts take about the time of two:
the weights are read from memory once for all of them. So it pays to ask together, through
`generate_batch` or a `BatchProcessor`; a single question is slower than with the embedded engine.

Greedy unless there is a temperature. Each request of a batch has its own length, end, sampling and
luck: with a seed, its answer does not depend on who else is in the batch (but for the last bits of
floating-point sums, which differ with the width of a batch).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from llm_net.errors import LLMNetError, UsageError
from llm_net.llm import weights
from llm_net.llm.hf_engine import Row, ending, load
from llm_net.llm.model import Completion, Request
from llm_net.llm.waiting import await_future, in_thread, wait

__all__ = ["HFModel"]


class HFModel:
    """A causal language model with a chat template, run by transformers in this process.

    Handles of one name and device share the weights. Nothing of a model's own code is run, and its
    weights are read from safetensors or GGUF only.

    Args:
        name: `hf/` and a name on the Hugging Face hub, which is fetched unless it is here already;
            or `hf/` and a path, absolute or with a leading dot, of a directory or a GGUF file; or
            `hf/smollm2-135m` for the embedded model's weights.
        device: As torch names it; None for `cuda` if there is one, else `cpu`.
    """

    def __init__(self, name: str, *, device: str | None = None) -> None:
        self.name = name
        self._device = device
        self._place = _place_finder(name)

    def __repr__(self) -> str:
        return f"HFModel({self.name!r})"

    def complete(self, request: Request) -> Completion:
        """Ask the model, which is loaded if this is the first time.

        Raises:
            UsageError: If a parameter is unknown.
            ModelSetupError: If the extra, the weights or a chat template are missing.
            ModelCallError: If the prompt is too long, or the time over.
        """
        left = threading.Event()
        # In a thread even without a timeout: here a Ctrl-C is heard at once.
        future = self._start(request, left)
        try:
            return wait(future, timeout=request.timeout, who=self.name)
        finally:
            left.set()

    async def acomplete(self, request: Request) -> Completion:
        """Ask the model beside the event loop; raises what `complete` does."""
        left = threading.Event()
        future = self._start(request, left)
        try:
            return await await_future(future, timeout=request.timeout, who=self.name)
        finally:
            left.set()

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Exception]:
        """Answer all in one batch, each within its own timeout; one that fails fails alone.

        Raises:
            ModelSetupError: If the extra, the weights or a chat template are missing.
        """
        return self._answer(requests, ending.is_set)

    def _start(self, request: Request, left: threading.Event) -> Future[Completion]:
        def ask() -> Completion:
            (answer,) = self._answer([request], lambda: left.is_set() or ending.is_set())
            if isinstance(answer, Exception):
                raise answer
            return answer

        return in_thread(ask)

    def _answer(
        self, requests: Sequence[Request], is_in_vain: Callable[[], bool]
    ) -> list[Completion | Exception]:
        start = time.monotonic()  # the loading counts, as the caller's own clock sees it
        engine = load(self.name, self._place, self._device)
        outcomes: list[Row | Exception] = []
        for request in requests:
            try:
                outcomes.append(engine.row(request, self.name, start))
            except LLMNetError as error:
                outcomes.append(error)
        rows = [outcome for outcome in outcomes if isinstance(outcome, Row)]
        if rows:
            engine.write(rows, is_in_vain)
        return [
            engine.answer(outcome, self.name) if isinstance(outcome, Row) else outcome
            for outcome in outcomes
        ]


def _place_finder(name: str) -> Callable[[], Path | str]:
    """Where the model is, looked for when it is needed; whether the name makes sense, now."""
    model = name.removeprefix("hf/")
    if model == weights.SMOLLM2.name:
        return weights.find
    if not model.startswith(("/", ".", "~")):
        if not model or model.endswith(".gguf"):
            raise UsageError(
                f"llm_model={name!r} names no model. After 'hf/' comes a name on the hub "
                "('hf/org/model'), or a path: 'hf//path/to/model.gguf', 'hf/./directory'."
            )
        return lambda: model
    path = Path(model).expanduser().resolve()
    return lambda: path
