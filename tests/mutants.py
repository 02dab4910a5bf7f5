"""Does the suite notice? Breaks the package in one line at a time, in a copy, and runs the tests.

    python tests/mutants.py            # all
    python tests/mutants.py order ask  # those with one of these words in their names

Every promise has a mutant or more that breaks it. The exit code is 1 if one survives, or if a line
that is to be broken has moved: then change it here. The working tree is not touched.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = ["llm", "pykka_suite", "stress", "test_docs.py", "test_examples.py"]
"""Tests that say nothing of what is broken here, or are slow to say it."""
HANGS_S = 900
"""A suite that takes so long hangs, and so has noticed."""
BASE = "nothing is broken"


@dataclass(frozen=True)
class Mutant:
    """One line that is made wrong.

    Attributes:
        name: Which promise it breaks.
        file: Where.
        old: The text as it is, once in that file.
        new: What stands there instead.
        first: The tests that are likely to notice; the others are run if they do not.
    """

    name: str
    file: str
    old: str
    new: str
    first: str


MUTANTS = [
    # -- one at a time
    Mutant(
        "two at a time",
        "llm_net/cell.py",
        "while mail and self.turns < self.limit and not self._holding:",
        "while mail and self.turns < self.limit + 1 and not self._holding:",
        "test_agent.py",
    ),
    Mutant(
        "two threads at a time",
        "llm_net/deterministic.py",
        "        give()\n        self._take_back()\n",
        "        give()\n",
        "test_deterministic.py",
    ),
    # -- order
    Mutant(
        "order in a mailbox",
        "llm_net/cell.py",
        "envelope = mail.popleft()\n            message = envelope.message",
        "envelope = mail.pop()\n            message = envelope.message",
        "test_agent.py",
    ),
    Mutant(
        "order under one name",
        "llm_net/scheduled_cell.py",
        "return self._names[_name(envelope)][0] == number",
        "return True",
        "test_deterministic.py stateful/test_whole_runs.py",
    ),
    Mutant(
        "order from a set",
        "llm_net/scheduled_cell.py",
        "return list(self._lanes.values())",
        "return list(set(self._lanes.values()))",
        "test_deterministic.py",
    ),
    Mutant(
        "order of links",
        "llm_net/node.py",
        "    return next(_order)",
        "    return -next(_order)",
        "test_network.py",
    ),
    # -- conservation
    Mutant(
        "conservation of deliveries",
        "llm_net/cell.py",
        "            scope.delivered += 1\n            self.delivered += 1\n            if self.",
        "            self.delivered += 1\n            if self.",
        "test_run.py",
    ),
    Mutant(
        "conservation of emits",
        "llm_net/speech.py",
        "    scope.sent += count\n    scope.open += count\n    if ready",
        "    scope.open += count\n    if ready",
        "test_run.py test_network.py",
    ),
    Mutant(
        "conservation of late replies",
        "llm_net/speech.py",
        "        cell.runtime.bury(lost, reason, path, counted=False)\n        return",
        "        return",
        "test_ref.py stateful/test_asks_and_timers.py",
    ),
    Mutant(
        "limit leaves messages queued",
        "llm_net/running.py",
        "        if scope.ended is not None:\n            runtime.discard(scope)",
        "        if scope.ended is not None:\n            pass",
        "test_run.py",
    ),
    # -- isolation
    Mutant(
        "isolation in place",
        "llm_net/cell.py",
        "# noqa: BLE001 - one agent's exit is not the others'\n                    raised = error",
        "# noqa: BLE001 - one agent's exit is not the others'\n                    raise",
        "test_failures.py",
    ),
    Mutant(
        "isolation in a task",
        "llm_net/runner.py",
        "        raised = turn.broken or error\n",
        "        raise\n",
        "test_failures.py",
    ),
    Mutant(
        "abandoned turns speak",
        "llm_net/runner.py",
        "        if not turn.abandoned:\n            before",
        "        if True:\n            before",
        "test_failures.py test_run.py test_ref.py",
    ),
    Mutant(
        "restart keeps the fields",
        "llm_net/recovery.py",
        "        cell.snapshot.put_back(cell.agent)",
        "        pass",
        "test_failures.py",
    ),
    Mutant(
        "intensity one too many",
        "llm_net/supervision.py",
        "        if most is not None and near >= most:\n",
        "        if most is not None and near > most:\n",
        "test_supervision.py test_recovery.py",
    ),
    Mutant(
        "intensity window off by one",
        "llm_net/supervision.py",
        "self._times[0] <= now - window",
        "self._times[0] < now - window",
        "test_failures.py test_deterministic.py",
    ),
    # -- quiet
    Mutant(
        "quiet too early",
        "llm_net/scope.py",
        "        return self.open == 0\n",
        "        return self.open <= 1\n",
        "test_run.py",
    ),
    Mutant(
        "quiet in spite of a timer",
        "llm_net/timers.py",
        "            self.turn.scope.open += 1  # a message to come",
        "            self.turn.scope.open += 0  # a message to come",
        "test_run.py stateful/test_asks_and_timers.py",
    ),
    # -- bounds
    Mutant(
        "limit of messages off by one",
        "llm_net/scope.py",
        "if bound is not None and self.turns >= bound:",
        "if bound is not None and self.turns > bound:",
        "test_run.py",
    ),
    Mutant(
        "limit of hops off by one",
        "llm_net/scope.py",
        "envelope.hops > limits.max_hops",
        "envelope.hops >= limits.max_hops",
        "test_run.py",
    ),
    Mutant(
        "limit of repeats off by one",
        "llm_net/scope.py",
        "seen >= self.limits.max_repeats",
        "seen > self.limits.max_repeats",
        "test_run.py",
    ),
    Mutant(
        "mailbox one too many",
        "llm_net/cell.py",
        "len(self.mail) >= self.capacity)",
        "len(self.mail) > self.capacity)",
        "test_mailbox.py",
    ),
    Mutant(
        "ask never too late",
        "llm_net/asking.py",
        "        ask.give_up(late(message, node.path, timeout))\n",
        "        pass\n",
        "test_deterministic.py",
    ),
    Mutant(
        "ask in a circle",
        "llm_net/asking.py",
        "    circle = circle_of(cell, ask)\n",
        "    circle = None\n",
        "test_agent.py test_deterministic.py",
    ),
    # -- who hears what
    Mutant(
        "expose ignored",
        "llm_net/node.py",
        "if above is None or event not in above.expose:",
        "if above is None:",
        "test_network.py",
    ),
    Mutant(
        "overheard is replied to",
        "llm_net/speech.py",
        "    bare = envelope.overheard or handled.method == RESPONSE\n    here",
        "    bare = handled.method == RESPONSE\n    here",
        "test_agent.py",
    ),
    Mutant(
        "undeclared handlers are reached",
        "llm_net/handlers.py",
        '        elif name not in reserved and not name.startswith("_"):',
        "        else:",
        "test_agent.py",
    ),
    Mutant(
        "two awards",
        "llm_net/protocols/negotiation.py",
        "        self._bids.remove(branch)\n        branch.awarded = True",
        "        branch.awarded = True",
        "test_contract_net.py",
    ),
    # -- determinism
    Mutant(
        "trace of a set",
        "llm_net/trace.py",
        '",".join(sorted(_texts(value)))',
        '",".join(_texts(value))',
        "test_deterministic.py",
    ),
    Mutant(
        "trace of an address",
        "llm_net/trace.py",
        'self._link("start", path)',
        'self._link("start", path, str(id(self)))',
        "test_deterministic.py",
    ),
    Mutant(
        "trace without bodies",
        "llm_net/trace.py",
        '        fields["body"],\n',
        "",
        "test_deterministic.py",
    ),
    Mutant(
        "clock is real",
        "llm_net/virtual_time.py",
        "        return self._now\n",
        '        return __import__("time").monotonic()\n',
        "test_deterministic.py",
    ),
    Mutant(
        "luck is real",
        "llm_net/runtime.py",
        'return random.Random(f"{self.seed}:{path}")',
        "return random.Random()",
        "test_deterministic.py",
    ),
    Mutant(
        "ids are the process's",
        "llm_net/deterministic.py",
        'return f"{self._prefix}-{self._ids}"',
        'return f"{id(self)}-{self._ids}"',
        "test_deterministic.py",
    ),
    Mutant(
        "answers of models as they come",
        "llm_net/virtual_time.py",
        "        for _, let_in in out:",
        "        for _, let_in in reversed(out):",
        "test_deterministic.py",
    ),
    Mutant(
        "strict stays on",
        "llm_net/guard.py",
        "        if _entered == 0:\n",
        "        if _entered < 0:\n",
        "test_deterministic.py",
    ),
]


def tests_in(tree: Path, first: str) -> list[list[str]]:
    """The tests in two parts: first the likely ones, then all."""
    everything = ["tests", *(f"--ignore=tests/{each}" for each in LEFT_OUT)]
    likely = [f"tests/{each}" for each in first.split()]
    likely = [each for each in likely if (tree / each).exists()]
    return [likely, everything] if likely else [everything]


def noticed(tree: Path, tests: Sequence[str], say: Callable[[str], None]) -> str | None:
    """Run tests in a copy; gives the first that failed, or None."""
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-m", "not slow"]
    command += ["--timeout", "120", "-p", "no:cacheprovider", "--tb", "no"]
    settings = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "ci"}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=HANGS_S,
        )
    except subprocess.TimeoutExpired:
        return "the suite hangs"
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if failed:
        return failed[1]
    if "Timeout" in done.stdout + done.stderr:
        return "a test that hangs"
    say(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return f"pytest, which ended with {done.returncode}"


def verdict(mutant: Mutant | None, say: Callable[[str], None]) -> bool:
    """Break a copy of the tree, and see; whether all is as it should be."""
    began = time.monotonic()
    if mutant is not None:
        found = (ROOT / mutant.file).read_text().count(mutant.old)
        if found != 1:
            say(f"MOVED     {mutant.name}: its text occurs {found} times in {mutant.file}")
            return False
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        tree = Path(folder) / "tree"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "benchmarks", "_build")
        shutil.copytree(ROOT, tree, ignore=hidden)
        if mutant is not None:
            file = tree / mutant.file
            text = file.read_text()
            file.write_text(text.replace(mutant.old, mutant.new))
        by = None
        for tests in tests_in(tree, "" if mutant is None else mutant.first):
            by = by or noticed(tree, tests, say)
    spent = f"{time.monotonic() - began:.0f} s"
    if mutant is None:
        say(f"{BASE}: {'the suite passes' if by is None else f'but {by} fails'} ({spent})")
        return by is None
    said = "SURVIVED " if by is None else "CAUGHT   "
    say(f"{said} {mutant.name}{'' if by is None else f' by {by}'} ({spent})")
    return by is not None


def main() -> int:
    """Try the mutants that were asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only those with one of these in the name")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    parser.add_argument(
        "--no-base", action="store_true", help="do not run the suite unbroken first"
    )
    given = parser.parse_args()
    chosen = [
        each
        for each in MUTANTS
        if not given.words or any(word in each.name for word in given.words)
    ]

    def say(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - a script

    if not chosen:
        say(f"No mutant has one of these words in its name: {', '.join(given.words)}")
        return 1
    if not given.no_base and not verdict(None, say):
        say("A suite that fails by itself shows nothing: first make it pass.")
        return 1
    with ThreadPoolExecutor(given.jobs) as pool:
        good = list(pool.map(lambda mutant: verdict(mutant, say), chosen))
    say(f"{sum(good)} of {len(good)} caught")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
