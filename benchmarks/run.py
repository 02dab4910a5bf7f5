"""All contestants side by side: `python run.py [--rounds 5] [--table FILE] [--raw FILE]`.

Goes round by round through (workload, contestant), each in a process of its own, and writes a
Markdown table (between `<!-- table -->` and `<!-- end of table -->` of a file that has them):
medians over the rounds, and ratios that were taken inside a round before their median was. So what
else the machine does hits both sides of a ratio alike. `make bench` calls it in an environment that
has the peers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rows import ROWS, TIMES, Row

HERE = Path(__file__).parent
OURS = "llm_net"
TIMEOUT_S = 180
BEGIN, END = "<!-- table -->", "<!-- end of table -->"

Line = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """Whose script does which workloads, and under which name its package is installed."""

    script: Path
    title: str
    package: str
    workloads: frozenset[str]

    @property
    def heading(self) -> str:
        """Title and version."""
        try:
            return f"{self.title} {version(self.package)}"
        except PackageNotFoundError:
            return self.title


def contestant(script: str, title: str, package: str, workloads: str) -> Contestant:
    """One of ours."""
    return Contestant(HERE / script, title, package, frozenset(workloads.split()))


CONTESTANTS = {
    OURS: contestant("bench_llm_net.py", "llm_net", "llm-net", "W1 W2 W3 W4 W5 W6 W7 W8"),
    "pykka": contestant("bench_pykka.py", "Pykka", "pykka", "W1 W2 W3 W4 W5 W6"),
    "autogen": contestant("bench_autogen.py", "AutoGen", "autogen-core", "W1 W2 W3 W5"),
    "langgraph": contestant("bench_langgraph.py", "LangGraph", "langgraph", "W1 W2 W3 W5 W7"),
}


def measure(who: Contestant, workload: str, scale: float) -> Line:
    """The line that a contestant prints in a fresh process, or what went wrong."""
    command = [sys.executable, str(who.script), workload, "--scale", str(scale)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(  # noqa: S603 - our own scripts, and those we are told
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {TIMEOUT_S} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip() or "it printed no line").splitlines()[-1]}
    found: Line = json.loads(lines[-1])
    return found


def session(
    contestants: dict[str, Contestant], workloads: Iterable[str], rounds: int, scale: float
) -> Iterator[Line]:
    """All lines, as they come; says on standard error how far it is."""
    names = list(contestants)
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    origin = {"date": date, "python": platform.python_version(), "scale": scale}
    for number in range(rounds):
        for workload in workloads:
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:  # nobody is always the one after somebody
                who = contestants[name]
                if workload not in who.workloads:
                    continue
                line = measure(who, workload, scale)
                said = line.get("error") or line.get("skipped") or f"{line['wall_s']} s"
                print(f"round {number + 1}/{rounds} {workload} {name}: {said}", file=sys.stderr)
                yield {**line, "peer": name, "w": workload, "round": number, **origin}


class Results:
    """The lines of a session."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._figures: dict[tuple[str, str, str], dict[int, float]] = {}
        for line in lines:
            for key, value in line.items():
                if isinstance(value, (int, float)):
                    place = self._figures.setdefault((line["peer"], line["w"], key), {})
                    place[line["round"]] = value

    def figure(self, peer: str, workload: str, key: str) -> float | None:
        """The median over the rounds."""
        values = self._figures.get((peer, workload, key))
        return statistics.median(values.values()) if values else None

    def ratio(self, row: Row, peer: str) -> float | None:
        """Ours to a peer's: the median of what it was in each round."""
        ours = self._figures.get((OURS, row.workload, row.key), {})
        theirs = self._figures.get((peer, row.workload, row.theirs or row.key), {})
        ratios = [ours[each] / theirs[each] for each in ours if theirs.get(each)]
        return statistics.median(ratios) if ratios else None


def spoken(value: float, unit: str) -> str:
    """A figure with three digits."""
    if value >= 1_000_000:
        return f"{digits(value / 1_000_000)} M {unit}"
    if value >= 10_000:
        return f"{digits(value / 1000)} k {unit}"
    return f"{digits(value)} {unit}"


def digits(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def reached(results: Results, row: Row) -> tuple[str, str]:
    """What is to be reached, and whether it is."""
    goals: list[str] = []
    met: list[str] = []
    for goal in row.goals:
        sign = "≤" if goal.most else "≥"
        if goal.peer is None:
            goals.append(f"{sign} {spoken(goal.bound, row.unit)}")
            figure = results.figure(OURS, row.workload, row.key)
        else:
            goals.append(f"{sign} {goal.bound:g} {TIMES} {CONTESTANTS[goal.peer].title}")
            figure = results.ratio(row, goal.peer)
        met.append("?" if figure is None else "yes" if goal.met(figure) else "no")
    return ", ".join(goals), ", ".join(met)


def table(results: Results, contestants: dict[str, Contestant]) -> Iterator[str]:
    """The table's lines."""
    peers = [name for name in contestants if name != OURS]
    headings = [contestants[name].heading for name in (OURS, *peers)]
    yield f"| Work | {' | '.join(headings)} | to reach | reached |"
    yield f"| --- |{' --- |' * len(headings)} --- | --- |"
    for row in ROWS:
        ours = results.figure(OURS, row.workload, row.key)
        if ours is None:
            continue
        cells = [f"{row.workload} {row.text}", spoken(ours, row.unit)]
        for peer in peers:
            theirs = results.figure(peer, row.workload, row.theirs or row.key)
            ratio = results.ratio(row, peer)
            if theirs is None or ratio is None:
                cells.append("")
            else:
                cells.append(f"{spoken(theirs, row.unit)} ({digits(ratio)} {TIMES})")
        yield f"| {' | '.join((*cells, *reached(results, row)))} |"


def origin(lines: list[Line]) -> str:
    """How the table was made."""
    rounds = max(line["round"] for line in lines) + 1
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return (
        f"Made on {lines[0]['date']} with Python {lines[0]['python']} on {os.cpu_count()} cores of "
        f"{models[0] if models else platform.machine()}: {rounds} rounds at scale "
        f"{lines[0]['scale']:g}, each workload of each library in a process of its own, in turn. "
        "Figures are medians over the rounds. In brackets llm_net's figure over the peer's, taken "
        "inside each round, then the median."
    )


def write(text: str, path: Path) -> None:
    """Put the text between the two marks in this file, or make it the file."""
    before, begin, rest = (path.read_text("utf-8") if path.exists() else "").partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        text = f"{before}{begin}\n{text}{end}{after}"
    path.write_text(text, "utf-8")


def main() -> None:
    """Measure, or read what was measured, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies message counts")
    parser.add_argument(
        "--peers", nargs="*", default=[name for name in CONTESTANTS if name != OURS]
    )
    parser.add_argument("--workloads", nargs="*", default=[f"W{number}" for number in range(1, 9)])
    parser.add_argument(
        "--also",
        nargs="*",
        default=[],
        metavar="PACKAGE=SCRIPT",
        help="further peers, installed here, whose scripts print such lines for W1 to W5",
    )
    parser.add_argument("--table", type=Path, help="default: standard output")
    parser.add_argument("--raw", type=Path, help="where to write the JSON lines")
    parser.add_argument("--read", type=Path, help="take these JSON lines, and measure nothing")
    options = parser.parse_args()
    contestants = {name: CONTESTANTS[name] for name in (OURS, *options.peers)}
    for further in options.also:
        package, _, script = further.partition("=")
        early = frozenset(["W1", "W2", "W3", "W4", "W5"])
        contestants[package] = Contestant(Path(script), package, package, early)
    if options.read:
        lines = [json.loads(line) for line in options.read.read_text("utf-8").splitlines()]
    else:
        lines = []
        if options.raw:
            options.raw.write_text("", "utf-8")
        for line in session(contestants, options.workloads, options.rounds, options.scale):
            lines.append(line)
            if options.raw:
                with options.raw.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    text = "\n".join((*table(Results(lines), contestants), "", origin(lines), ""))
    if options.table:
        write(text, options.table)
    else:
        print(text)
    if any("error" in line for line in lines):
        sys.exit("Some workloads did not run; see above.")


if __name__ == "__main__":
    main()
