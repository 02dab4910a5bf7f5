"""The workloads of `bench_llm_net.py` with plain Pykka, to be run beside it."""

from __future__ import annotations

import argparse
import json
import threading
import time
from typing import Any

import pykka
from bench_llm_net import BODY, LISTENERS, RING, latencies, memory_kb


class Gate:
    """Opens when it was passed so often."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self.open = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self.open.set()


class Plain(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        self.next: Any = None

    def on_receive(self, message: tuple[Any, ...]) -> Any:
        match message:
            case ("pass", body, left):
                if left:
                    self.next.tell(("pass", body, left - 1))
                else:
                    self.gate()
            case ("next", ref):
                self.next = ref
            case ("count", _):
                self.gate()
            case ("sleep",):
                time.sleep(0.05)
                self.gate()
            case ("echo", body):
                return body
        return None


def w1(scale: float, _count: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for tokens in (1, 100):
        hops = int(100_000 * scale) // tokens
        gate = Gate(tokens)
        refs = [Plain.start(gate) for _ in range(RING)]
        for index, ref in enumerate(refs):
            ref.ask(("next", refs[(index + 1) % RING]))
        start = time.perf_counter()
        for index in range(tokens):
            refs[index].tell(("pass", BODY, hops))
        gate.open.wait()
        out[f"hops_s_{tokens}"] = round(hops * tokens / (time.perf_counter() - start))
        pykka.ActorRegistry.stop_all()
    return out


def w2(scale: float, _count: int) -> dict[str, Any]:
    rounds = max(1, int(50 * scale))
    gate = Gate(LISTENERS * rounds)
    refs = [Plain.start(gate) for _ in range(LISTENERS)]
    start = time.perf_counter()
    for _ in range(rounds):
        for ref in refs:
            ref.tell(("count", BODY))
    gate.open.wait()
    took = time.perf_counter() - start
    pykka.ActorRegistry.stop_all()
    return {"deliveries_s": round(LISTENERS * rounds / took)}


def w3(scale: float, _count: int) -> dict[str, Any]:
    ref = Plain.start(Gate(1))
    out = latencies(lambda: ref.ask(("echo", BODY)), int(10_000 * scale))
    ref.stop()
    return dict(out)


def w4(_scale: float, count: int) -> dict[str, Any]:
    count = count or 1000
    before, start = memory_kb(), time.perf_counter()
    refs = [Plain.start(Gate(1)) for _ in range(count)]
    out: dict[str, Any] = {"n": count}
    out["us_per_agent"] = round((time.perf_counter() - start) / count * 1e6, 2)
    out["kb_per_agent"] = round((memory_kb() - before) / count, 2)
    start = time.perf_counter()
    for ref in refs:
        ref.stop(block=False)
    refs[-1].actor_stopped.wait()
    out["stop_s"] = round(time.perf_counter() - start, 3)
    return out


def w5(_scale: float, count: int) -> dict[str, Any]:
    count = count or 1000
    gate = Gate(count)
    refs = [Plain.start(gate) for _ in range(count)]
    start = time.perf_counter()
    for ref in refs:
        ref.tell(("sleep",))
    gate.open.wait()
    took = time.perf_counter() - start
    pykka.ActorRegistry.stop_all()
    return {"n": count, "wall_ms": round(took * 1e3, 1), "x_ideal": round(took / 0.05, 3)}


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5}


def main() -> None:
    """Run one workload and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies message counts")
    parser.add_argument("--n", type=int, default=0, help="agents, for W4 and W5")
    options = parser.parse_args()
    result = WORKLOADS[options.workload](options.scale, options.n)
    print(json.dumps({"peer": "pykka", "w": options.workload, **result}))


if __name__ == "__main__":
    main()
