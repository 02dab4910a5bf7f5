"""The next model, where one fails for good.

Model tower, floor 2. A model around models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from llm_net.errors import ModelCallError, ModelSetupError, UsageError
from llm_net.llm.flows import Ask, Flow, Flowing
from llm_net.llm.model import Completion, Model, Request

__all__ = ["Fallback"]


class Fallback(Flowing):
    """Models in order of preference: each is asked if those before it could not answer.

    Whatever kept a model from answering, its retries included, counts: no connection, a refusal,
    a missing key. What is wrong with the call itself is raised at once, and so is a budget's end;
    an answer of which a piece was handed out is not begun anew. A request's `timeout` covers all.

    Args:
        models: At least one.
        clock: Seconds that never go back.

    Raises:
        UsageError: If there is none.
    """

    def __init__(
        self, models: Sequence[Model], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not models:
            raise UsageError("Fallback([]) has nobody to ask. Give one model, and one besides.")
        self.models = tuple(models)
        self.name: str = getattr(models[0], "name", type(models[0]).__name__)
        self._clock = clock

    def flow(self, request: Request) -> Flow:
        """One model after the other.

        Raises:
            ModelCallError: If the last of them failed, or the time is over.
            ModelSetupError: If the last of them lacks something.
        """
        timeout = request.timeout
        begun = self._clock()
        asked = request
        for number, model in enumerate(self.models, start=1):
            ask = Ask(model, asked)
            try:
                completion: Completion = yield ask
            except (ModelCallError, ModelSetupError):
                if ask.begun or number == len(self.models):
                    raise
                if timeout is not None:
                    rest = timeout - (self._clock() - begun)
                    if rest <= 0:
                        raise
                    asked = replace(request, params={**request.params, "timeout": rest})
            else:
                return completion
        raise AssertionError("the last model answers or raises")
