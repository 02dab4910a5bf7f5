"""`python -m examples.contract_net`: contractors bid for a task, and one of them does it.

Bids and work are written by a language model, by default the embedded one on this machine.
"""

import argparse
import sys
from pathlib import Path

from examples.contract_net import show
from examples.contract_net.agents import town
from llm_net import LLMNetError, ModuleLLM, UsageError
from llm_net.protocols import ContractNet, Outcome

TASK = "Build a wooden bench for the village square."


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line, read and checked."""
    parser = argparse.ArgumentParser(prog="python -m examples.contract_net", description=__doc__)
    parser.add_argument("--model", default="local/smollm2-135m", help="provider/name of any model")
    parser.add_argument("--contractors", type=_count, default=5, metavar="N")
    parser.add_argument("--nested", action="store_true", help="add a guild: a network that bids")
    parser.add_argument("--task", default=TASK)
    parser.add_argument("--deadline", type=_seconds, default=120, help="seconds for the bids")
    parser.add_argument(
        "--out", type=Path, default=Path("contract_net_out"), help="where the pictures go"
    )
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} contractors: give 0 or more")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text} seconds: give more than 0")
    return seconds


def broken_model(outcome: Outcome) -> LLMNetError | None:
    """What was wrong with the model, if nobody could bid because of it."""
    for why in outcome.refused.values():
        if isinstance(why, Exception) and isinstance(why.__cause__, LLMNetError):
            return why.__cause__
    return None


def main(argv: list[str] | None = None) -> int:
    """Hold the contract net; gives the exit status."""
    options = arguments(argv)
    try:
        llm = ModuleLLM(options.model, temperature=0.7, seed=7)
    except UsageError as error:
        print(f"No model: {error}", file=sys.stderr)
        return 1
    network = town(options.contractors, llm, nested=options.nested)
    net = ContractNet(
        network,
        initiator="manager",
        deadline=options.deadline,
        result_deadline=options.deadline,
    )
    print(f"{options.contractors} contractors, asked by one manager, on {options.model}\n")
    negotiation = net.stream(options.task, progress=sys.stderr.isatty())
    for message in negotiation:
        show.line(message)
    outcome = negotiation.outcome
    print(f"\n{show.table(outcome)}")
    wrong = broken_model(outcome)
    if outcome.status == "no_bids" and wrong is not None:
        print(f"\nNobody could bid: {wrong}", file=sys.stderr)
        return 1
    try:
        files = show.pictures(outcome, network, options.out)
    except OSError as error:
        print(
            f"\nThe pictures could not be written to {options.out}: {error}. "
            "Give another folder: --out FOLDER.",
            file=sys.stderr,
        )
        return 1
    print("\nOpen in a browser: " + ", ".join(str(file) for file in files if file.suffix == ".svg"))
    return 0 if outcome.status == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
