"""Taking the steps of a wrapped model's thought by hand, on a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_net.errors import ModelCallError
from llm_net.llm.flows import Pause
from llm_net.llm.model import Completion, Request

if TYPE_CHECKING:
    from llm_net.llm.flows import Flow

DONE = Completion(text="done")


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """A model that answers or raises what it is told, and remembers who asked.

    Attributes:
        outcomes: Used in order; the last one stays. A function is called for its outcome.
    """

    outcomes: Sequence[Completion | BaseException | Callable[[], Completion]] = (DONE,)
    name: str = "openai/m"
    asked: list[Request] = field(default_factory=list[Request])

    def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        outcome = self.outcomes[min(len(self.asked), len(self.outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome() if callable(outcome) else outcome

    async def acomplete(self, request: Request) -> Completion:
        return self.complete(request)


def ask(text: str = "hi", place: str = "", **params: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), params=params, place=place)


def failure(
    *, passing: bool = True, status: int | None = 503, retry_after: float | None = None
) -> ModelCallError:
    error = ModelCallError("The server is on fire. Call the fire brigade.")
    error.passing, error.status, error.retry_after = passing, status, retry_after
    return error


def walk(flow: Flow, clock: Clock) -> tuple[Completion, list[float]]:
    """Take all steps; pauses move the clock. Gives the answer, and how long the pauses were."""
    pauses: list[float] = []
    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, Pause):
                    clock.now += step.seconds
                    pauses.append(step.seconds)
                    result = None
                else:
                    result = step.run()
            except Exception as error:  # noqa: BLE001 - the flow raises it again
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as done:
        return done.value, pauses
