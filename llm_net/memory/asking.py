"""How a memory asks a model: written once as a generator, driven blocking or awaiting.

Mind, floor 1. A model that fails leaves the memory as its rule has made it: what is remembered does
not depend on whether a provider is reachable.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from pydantic import BaseModel

from llm_net.errors import AnswerError, BudgetExceeded, ModelCallError
from llm_net.llm.model import Completion
from llm_net.llm.module_llm import ModuleLLM

__all__ = ["Asker", "Flow", "Question", "adrive", "drive"]

_FAILURES = (AnswerError, BudgetExceeded, ModelCallError)
"""What a rule can stand in for. Missing keys and scripts, misses of cassettes: someone must act."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a memory asks its model; answered with the completion, or None if the call failed."""

    prompt: str
    system_prompt: str
    response_format: type[BaseModel] | None = None

    def words(self) -> dict[str, Any]:
        """The keyword arguments of `generate`."""
        return vars(self)


Flow: TypeAlias = Generator[Question, Completion | None, None]


class Asker(Protocol):
    """Who asks, for its agent, and counts."""

    agent: Any
    llm: ModuleLLM | None
    calls: int
    failed_calls: int


def drive(flow: Flow, asker: Asker) -> None:
    """Answer a flow's questions in blocking code."""
    answer: Completion | None = None  # a generator's first send must be None
    with closing(flow):
        while True:
            try:
                question = flow.send(answer)
            except StopIteration:
                return
            try:
                answer = _counted(asker).generate(**_words(question, asker))
            except _FAILURES:
                answer = None
                asker.failed_calls += 1


async def adrive(flow: Flow, asker: Asker) -> None:
    """Answer a flow's questions without blocking the event loop."""
    answer: Completion | None = None
    with closing(flow):
        while True:
            try:
                question = flow.send(answer)
            except StopIteration:
                return
            try:
                answer = await _counted(asker).agenerate(**_words(question, asker))
            except _FAILURES:
                answer = None
                asker.failed_calls += 1


def _words(question: Question, asker: Asker) -> dict[str, Any]:
    place = getattr(asker.agent, "place_of_calls", "")
    return {**question.words(), "place": f"{place}:memory"} if place else question.words()


def _counted(asker: Asker) -> ModuleLLM:
    assert asker.llm is not None, "a memory without a model asks nothing"
    asker.calls += 1
    return asker.llm
