"""`python -m examples.quickstart`: two agents, offline; with `--model`, a chat with a real one."""

import argparse
import sys

from examples.quickstart import chat, two_agents


def main() -> int:
    """Run the example that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m examples.quickstart", description=__doc__)
    parser.add_argument(
        "--model",
        nargs="?",
        const="local/smollm2-135m",
        help="chat with a real model: provider/name; without a name the embedded one",
    )
    parser.add_argument("lines", nargs="*", help="what to say, instead of typing it")
    arguments = parser.parse_args()
    if arguments.model is None:
        two_agents.main()
        return 0
    return chat.main(arguments.model, arguments.lines)


if __name__ == "__main__":
    sys.exit(main())
