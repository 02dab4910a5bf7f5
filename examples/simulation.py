"""What the examples of agent-based models share: a command line, and where answers come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llm_net import Budget, Cassette, LLMNetError, ModuleLLM
from mesa_bridge import last_report

TOY = "local/smollm2-135m"
"""The embedded model: no key, no account, and no judgement."""
RECORDED = "recorded"
ANSWERS = {"type": "Select", "label": "Answers", "value": RECORDED, "values": [RECORDED, TOY]}
"""The choice on a page; add any model that you have a key for."""


@dataclass(frozen=True)
class Example:
    """An example, as the command line runs it.

    Attributes:
        name: Its folder.
        minds: Makes the model whose agents ask this language model, and pay from this budget.
        rules: Makes its twin, whose agents follow rules.
        line: What is to be said of either after a step.
        steps: So many, unless the command line says otherwise.
    """

    name: str
    minds: Callable[[ModuleLLM, Budget], Any]
    rules: Callable[[], Any]
    line: Callable[[Any], str]
    steps: int

    @property
    def recorded(self) -> Path:
        """Answers that were recorded with the embedded model."""
        return Path(__file__).parent / self.name / "recorded.jsonl"


def language_model(name: str, budget: Budget, cassette: Cassette | None = None) -> ModuleLLM:
    """One handle for all agents, with short answers."""
    return ModuleLLM(
        name, temperature=0.7, seed=7, max_tokens=80, timeout=120, cassette=cassette, budget=budget
    )


def arguments(example: Example, argv: list[str] | None) -> argparse.Namespace:
    """The command line, read."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{example.name}")
    parser.add_argument("--model", default=TOY, help="provider/name of any model")
    parser.add_argument("--steps", type=int, default=example.steps)
    parser.add_argument("--rules", action="store_true", help="run the twin with rules beside it")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--recorded", action="store_true", help="play the answers kept here")
    source.add_argument("--record", type=Path, metavar="FILE", help="keep the answers in a file")
    source.add_argument("--replay", type=Path, metavar="FILE", help="play the answers of a file")
    return parser.parse_args(argv)


def main(example: Example, argv: list[str] | None = None) -> int:
    """Run an example and print every step of it; then what it cost."""
    options = arguments(example, argv)
    tape: Path | None = options.record or options.replay
    if options.recorded:
        tape = example.recorded
    budget = Budget(calls=200)
    failures = 0
    try:
        cassette = (
            None if tape is None else Cassette(tape, mode="all" if options.record else "none")
        )
        model = example.minds(language_model(options.model, budget, cassette), budget)
        twin = example.rules() if options.rules else None
        for number in range(1, options.steps + 1):
            model.step()
            print(f"step {number}: {example.line(model)}")
            for deed in deeds(model, number):
                print(f"  {deed}")
            report = last_report(model)
            for failure in () if report is None else report.failures:
                failures += 1
                print(f"  {failure}", file=sys.stderr)
            if twin is not None:
                twin.step()
                print(f"  by rule: {example.line(twin)}")
        if cassette is not None:
            cassette.close()
    except LLMNetError as error:
        print(f"It did not work: {error}", file=sys.stderr)
        return 1
    # Not among what is printed above, which is the same each time: this holds seconds.
    print(budget.ledger, file=sys.stderr)
    return 1 if failures else 0


def deeds(model: Any, step: int) -> Iterator[str]:
    """What agents did in a step, and what came of it, in order."""
    for event in model.recorder.get_events_by_step(step):
        if event.event_type == "action":
            done = event.content
            given = ", ".join(f"{name}={value}" for name, value in done["arguments"].items())
            yield f"{event.agent_id} {done['name']}({given}): {' '.join(done['response'].split())}"


class OnPage:
    """For a page: a model with the answers that are chosen there. Goes before the model's class."""

    example: ClassVar[Example]
    running: bool
    steps: int

    def __init__(self, answers: str = RECORDED) -> None:
        budget = Budget(calls=200)
        self._is_recorded = answers == RECORDED
        tape = Cassette(self.example.recorded, mode="none") if self._is_recorded else None
        llm = language_model(TOY if self._is_recorded else answers, budget, tape)
        super().__init__(llm, budget)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    def step(self) -> None:
        """A step; with the last one that is recorded, the run is over."""
        super().step()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        self.running = not self._is_recorded or self.steps < self.example.steps
