"""mesa_bridge beside Mesa-LLM: `python beside_mesa_llm.py [--python python3.12] [--rounds 5]`.

Installs Mesa-LLM into a virtual environment of its own, with the LiteLLM and the Mesa (and all that
Mesa takes for its pages) that are installed here, and keeps a process of each library
(`bench_mesa_llm.py`). Both step the same town of agents with chain-of-thought reasoning, a step of
one and a step of the other in turn, so that what else the machine does hits both. Figures are
medians over the rounds; ratios are taken inside a round before their median is.

Each library has its own ideal: as many answers of 50 ms as it asks for one after the other, which
is one a step here and two in Mesa-LLM. In brackets stands the time as a multiple of one answer.

Mesa-LLM is shown from its best side: its panels, which it prints to the terminal at every step of
every agent, are off; the stub's answer is built once; LiteLLM reads its price list from the disk
and not from the network. In ten steps before the CPU time is taken the memories fill, and it is
taken over two steps, because Mesa-LLM condenses memories in every second one, which is a third
call. What takes longer than 5 s is done once, without a step to warm up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from rows import TIMES

HERE = Path(__file__).parent
OURS, THEIRS = "mesa_bridge", "mesa_llm"
PEER = "0.3.2"
LATENCY_S = 0.05
LONG_S = 5.0
IMPORT = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
IMPORTS = {
    OURS: ["import mesa_bridge"],
    THEIRS: ["import mesa_llm", "import mesa_llm.llm_agent"],  # the agents are in the second
}
PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--quiet")
ENVIRONMENT = {"PYTHONWARNINGS": "ignore", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

Figures = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What is measured at once.

    Attributes:
        mode: Of parallel stepping.
        way: How all agents are stepped; `TEXTS` says it in words.
        size: How many agents.
        latency_s: How long an answer takes; 0 to measure CPU time.
    """

    mode: str
    way: str
    size: int
    latency_s: float

    def command(self, way: str, steps: int) -> Figures:
        """What a contestant is told."""
        named = {"mode": self.mode, "way": way, "size": self.size}
        return {**named, "latency_s": self.latency_s, "steps": steps}


TEXTS = {
    "by-hand": "by hand",
    "automatic": "automatic, as documented",
    "automatic-copy": "automatic, theirs by a copy of `model.agents`",
}


class Contestant:
    """A library's process, which steps towns as it is told."""

    def __init__(self, library: str, python: Path) -> None:
        self._library = library
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [python, HERE / "bench_mesa_llm.py", library],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def step(self, cell: Cell, steps: int = 1) -> Figures:
        """Step this town; a copy of Mesa's own set is needed on one side only."""
        way = "automatic" if self._library == OURS and "automatic" in cell.way else cell.way
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(cell.command(way, steps)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._library} ended in {cell}; see above.")
        figures: Figures = json.loads(line)
        return figures


def installed(python: str, home: Path) -> Path:
    """The interpreter of an environment that has Mesa-LLM; it is made if it is not there."""
    peer = home / "bin" / "python"
    wanted = [
        f"mesa-llm=={PEER}",
        f"mesa[rec]=={version('mesa')}",
        f"litellm=={version('litellm')}",
    ]
    made_of = home / "made-of.txt"
    made = " ".join((str(shutil.which(python)), *wanted))
    if made_of.exists() and made_of.read_text("utf-8") == made:
        return peer
    print(f"Installing {', '.join(wanted)} into {home} (once; a minute)...", file=sys.stderr)
    subprocess.run([python, "-m", "venv", "--clear", home], check=True)  # noqa: S603
    subprocess.run([peer, *PIP, *wanted], check=True)  # noqa: S603
    made_of.write_text(made, "utf-8")
    return peer


def measured(cell: Cell, sides: Mapping[str, Contestant], rounds: int) -> Figures:
    """Each side's medians, and ours as a part of theirs."""
    lines: dict[str, list[Figures]] = {name: [] for name in sides}
    steps = 1 if cell.latency_s else 2
    for name, side in sides.items():
        first = side.step(cell, steps if cell.latency_s else 10)
        if first["wall_s"] > LONG_S:
            lines[name] = [first]
    once = {name for name, found in lines.items() if found}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            if name not in once:
                lines[name].append(sides[name].step(cell, steps))
    found: Figures = {"mode": cell.mode, "way": cell.way, "agents": cell.size}
    found["latency_ms"] = cell.latency_s * 1e3
    for name, figures in lines.items():
        medians = {key: statistics.median(each[key] for each in figures) for key in figures[0]}
        found[name] = {**medians, "rounds": len(figures)}
    for key in ("wall_s", "cpu_us"):
        ours, theirs = ([each[key] for each in lines[name]] for name in (OURS, THEIRS))
        if len(ours) == len(theirs):
            ratio = statistics.median(o / t for o, t in zip(ours, theirs, strict=True))
        else:
            ratio = statistics.median(ours) / statistics.median(theirs)
        found[f"ratio_{key}"] = ratio
    return found


def cells(sizes: list[int], *, is_hooked: bool) -> Iterator[Cell]:
    """All that is measured, the short before the long."""
    for size in sizes:
        for mode in ("asyncio", "threading"):
            for way in ("by-hand", "automatic" if is_hooked else "automatic-copy"):
                yield Cell(mode, way, size, LATENCY_S)
    for size in sizes:
        for mode in ("asyncio", "threading"):
            yield Cell(mode, "by-hand", size, 0.0)


def imports(python: Mapping[str, Path], rounds: int) -> Figures:
    """Seconds that a fresh interpreter needs for a statement, beyond what Mesa takes it."""
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, interpreter in python.items():
            mesa = _import_s(interpreter, "import mesa")
            times = {statement: _import_s(interpreter, statement) for statement in IMPORTS[name]}
            if number:  # the first time everything is compiled and read from the disk
                for statement, seconds in times.items():
                    found.setdefault(statement, []).append(seconds - mesa)
                found.setdefault(f"import mesa, beside {name}", []).append(mesa)
    return {what: statistics.median(times) for what, times in found.items()}


def _import_s(python: Path, statement: str) -> float:
    done = subprocess.run(  # noqa: S603 - a line of our own
        [python, "-c", IMPORT.format(statement)],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def of_ideal(figures: Figures) -> str:
    """A step's time as a multiple of its own ideal, and of one answer's time."""
    answers = figures["wall_s"] / LATENCY_S
    once = "" if figures["rounds"] > 1 else ", once"
    return f"{answers / round(figures['calls']):.3g} {TIMES} ({answers:.3g} {TIMES}{once})"


def cpu(figures: Figures) -> str:
    """What an agent's step costs."""
    return f"{figures['cpu_us']:.0f} µs, {figures['calls']:g} calls"


def table(found: list[Figures], import_s: Figures) -> Iterator[str]:
    """The table's lines."""
    yield f"| Work | mesa_bridge | Mesa-LLM {PEER} | ours to theirs |"
    yield "| --- | --- | --- | --- |"
    for each in found:
        what = f"{each['agents']:,} agents, {each['mode']}, {TEXTS[each['way']]}"
        what, told, key = (
            (f"a step, 50 ms: {what}", of_ideal, "ratio_wall_s")
            if each["latency_ms"]
            else (f"CPU of an agent's step, 0 ms: {what}", cpu, "ratio_cpu_us")
        )
        yield f"| {what} | {told(each[OURS])} | {told(each[THEIRS])} | {each[key]:.2g} {TIMES} |"
    for library, statements in IMPORTS.items():
        for statement in statements:
            told = f"{import_s[statement]:.2f} s"
            cells = f"{told} |" if library == OURS else f"| {told}"
            yield f"| `{statement}`, beyond `import mesa` | {cells} | |"


def main() -> None:
    """Install, measure, print a table and a JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python", default=sys.executable, help="for Mesa-LLM's environment; 3.12 or later"
    )
    parser.add_argument("--home", type=Path, default=HERE.parent / ".venv-mesa-llm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000])
    options = parser.parse_args()
    load = [os.getloadavg()[0]]
    python = {OURS: Path(sys.executable), THEIRS: installed(options.python, options.home)}
    import_s = imports(python, min(options.rounds, 3))
    found: list[Figures] = []
    with Contestant(OURS, python[OURS]) as ours, Contestant(THEIRS, python[THEIRS]) as theirs:
        sides = {OURS: ours, THEIRS: theirs}
        documented = measured(Cell("asyncio", "automatic", 100, LATENCY_S), sides, options.rounds)
        is_hooked = documented[THEIRS]["wall_s"] < LONG_S
        if not is_hooked:
            found.append(documented)  # with more agents it only takes longer
        for cell in cells(options.sizes, is_hooked=is_hooked):
            print(f"{cell}...", file=sys.stderr)
            found.append(measured(cell, sides, options.rounds))
    load.append(os.getloadavg()[0])
    print("\n".join(table(found, import_s)))
    origin = {
        "mesa": version("mesa"),
        "litellm": version("litellm"),
        "python": platform.python_version(),
        "rounds": options.rounds,
        "load": [round(each, 2) for each in load],
    }
    print(json.dumps({**origin, "import_s": import_s, "cells": found}))


if __name__ == "__main__":
    main()
