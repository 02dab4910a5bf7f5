"""What stands around a model, and in which order: budget, cassette, limits, batch, model.

Model tower, floor 3. The budget is outermost, so that a replayed run spends what the recorded one
spent and ends where that ended. The cassette stands before the limits, for a replay waits for
nobody. The batch is innermost: what waits for its turn is not in a batch yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from llm_net.llm.batch_queue import BatchModel
from llm_net.llm.batching import Batched, BatchProcessor
from llm_net.llm.endpoint import Endpoint, Limits, endpoint_key
from llm_net.llm.fallback import Fallback
from llm_net.llm.limits import Limited
from llm_net.llm.lite import LiteModel
from llm_net.llm.metered import Metered, Priced, free
from llm_net.llm.model import Model
from llm_net.llm.recording import Recorded
from llm_net.llm.scripted import FunctionModel, ModelFunction, Replies, ScriptedModel

if TYPE_CHECKING:
    from llm_net.llm.budget import Budget
    from llm_net.llm.cassette import Cassette

__all__ = ["AnyModel", "Assembly"]

_BATCH = 16
"""The most requests in a batch of a model that works in batches, where nobody says."""

AnyModel: TypeAlias = str | ModelFunction | Model
"""A model's name, a function that answers, or the model itself."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A model and all that stands around it; frozen, so that it can be built again elsewhere.

    Attributes:
        model: Who answers.
        api_base: Where it is; None for the provider's own address.
        replies: The script of `scripted`.
        limits: How its endpoint may be used.
        fallbacks: Who is asked if it fails for good, in this order.
        max_batch: The most requests in a batch; None for no queue, but for models of transformers.
        flush_interval: Seconds that a request waits for others.
        share_identical: Whether equal requests under way share one answer.
        cassette: Where its answers are recorded.
        budget: What its calls may cost, besides the budgets of those who call.
    """

    model: AnyModel
    api_base: str | None = None
    replies: Replies | None = None
    limits: Limits = field(default_factory=Limits)
    fallbacks: Sequence[AnyModel] = ()
    max_batch: int | None = None
    flush_interval: float = 0.01
    share_identical: bool = False
    cassette: Cassette | None = None
    budget: Budget | None = None

    @property
    def name(self) -> str:
        """The model's name, as it was given; a function's own."""
        if isinstance(self.model, str):
            return self.model
        found = getattr(self.model, "name", None) or getattr(self.model, "__name__", None)
        return str(found or type(self.model).__name__)

    def inner(self, api_key: str | None) -> Model:
        """Who answers in the end, with nothing around it."""
        model = self.model
        if isinstance(model, Model):
            return model
        if not isinstance(model, str):
            return FunctionModel(model)
        if model == "scripted":
            assert self.replies is not None, "ModuleLLM made sure of it"
            return ScriptedModel(self.replies)
        if model.startswith("local/"):
            # Here, or `python -m llm_net.llm.weights` would find itself imported already.
            from llm_net.llm.local import LocalModel  # noqa: PLC0415

            return LocalModel(model)
        if model.startswith("hf/"):
            from llm_net.llm.hf import HFModel  # noqa: PLC0415

            return HFModel(model)
        return LiteModel(model, api_base=self.api_base, api_key=api_key)

    def build(self, inner: Model, api_key: str | None) -> Model:
        """The model that is asked, around the one that answers."""
        model = self.kept(inner, api_key)
        if self.fallbacks:
            others = [self._beside(each) for each in self.fallbacks]
            keys = [api_key if self._akin(each) else None for each in others]
            rest = [each.kept(each.inner(key), key) for each, key in zip(others, keys, strict=True)]
            model = Fallback([model, *rest])
        return Metered(
            self.priced(model, inner),
            budget=self.budget,
            degrade=partial(self._cheaper, api_key=api_key),
        )

    def kept(self, inner: Model, api_key: str | None) -> Model:
        """A model behind its queue and its limits."""
        named = isinstance(self.model, str) and self.model != "scripted"
        model = inner
        if self.max_batch is not None or isinstance(inner, BatchModel):
            model = Batched(self._queue(inner, api_key, shared=named))
        if self.limits == Limits():
            return model
        key = endpoint_key(self.name.partition("/")[0], self.api_base, api_key)
        endpoint = Endpoint.shared(key, self.limits, name=self.name) if named else None
        return Limited(model, self.limits, endpoint)

    def _queue(self, model: Model, api_key: str | None, *, shared: bool) -> BatchProcessor:
        many = _BATCH if self.max_batch is None else self.max_batch
        make = partial(
            BatchProcessor,
            model,
            max_batch=many,
            flush_interval=self.flush_interval,
            share_identical=self.share_identical,
        )
        key = endpoint_key(self.name, self.api_base, api_key)
        configuration = (key, many, self.flush_interval, self.share_identical)
        return BatchProcessor.shared(configuration, make) if shared else make()

    def priced(self, model: Model, inner: Model) -> Priced:
        """A model behind the cassette, and what it costs."""
        if self.cassette is not None:
            model = Recorded(model, self.cassette, name=self.name, api_base=self.api_base)
        return Priced(model, self.name, inner.price if isinstance(inner, LiteModel) else free)

    def _beside(self, model: AnyModel) -> Assembly:
        """The same for another model, at its own provider's address unless that is the same one."""
        other = replace(self, model=model, fallbacks=(), budget=None)
        return other if self._akin(other) else replace(other, api_base=None)

    def _akin(self, other: Assembly) -> bool:
        """Whether both are the same provider's, so that address and key are for both."""
        return other.name.partition("/")[0] == self.name.partition("/")[0]

    def _cheaper(self, name: str, api_key: str | None) -> Priced:
        """The model that answers where the budget is short."""
        other = self._beside(name)
        key = api_key if self._akin(other) else None
        inner = other.inner(key)
        return other.priced(other.kept(inner, key), inner)
