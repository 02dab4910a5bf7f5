"""`python -m examples.minds react | debate | planner`: agents that think, step by step."""

import argparse
import sys
from pathlib import Path
from types import ModuleType

from examples.minds import debate, planner, react
from llm_net import Budget, Cassette, Deterministic, LLMNetError, ModuleLLM

EXAMPLES: dict[str, ModuleType] = {"react": react, "debate": debate, "planner": planner}
RECORDED = Path(__file__).parent / "recorded"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line, read."""
    parser = argparse.ArgumentParser(prog="python -m examples.minds", description=__doc__)
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("--model", default="local/smollm2-135m", help="provider/name of any model")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--recorded", action="store_true", help="play the answers kept here")
    source.add_argument("--record", type=Path, metavar="FILE", help="keep the answers in a file")
    source.add_argument("--replay", type=Path, metavar="FILE", help="play the answers of a file")
    return parser.parse_args(argv)


def model(options: argparse.Namespace) -> ModuleLLM:
    """The model that the options ask for."""
    tape: Path | None = options.record or options.replay
    if options.recorded:
        tape = RECORDED / f"{options.example}.jsonl"
    cassette = None
    if tape is not None:
        cassette = Cassette(tape, mode="all" if options.record else "none")
    return ModuleLLM(options.model, temperature=0.7, seed=7, max_tokens=60, cassette=cassette)


def main(argv: list[str] | None = None) -> int:
    """Run an example, and print every message of it."""
    options = arguments(argv)
    example = EXAMPLES[options.example]
    budget = Budget(calls=40)
    try:
        network = example.network(model(options))
        stream = network.stream(example.opening(), runtime=Deterministic(7), budget=budget)
        for message in stream:
            sender = "you" if message.sender is None else message.sender.path
            print(f"{sender} [{message.method}] {' '.join(message.body.split())}")
    except LLMNetError as error:
        print(f"It did not work: {error}", file=sys.stderr)
        return 1
    for failure in stream.run.failures:
        print(f"{failure.path} failed: {failure.__cause__ or failure}", file=sys.stderr)
    print(budget.ledger)
    return 1 if stream.run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
