"""The workloads of `bench_llm_net.py` with plain Pykka: threads, tuples, tell and ask."""

from __future__ import annotations

import threading
import time
from typing import Any

import pykka
from measure import (
    BODY,
    LISTENERS,
    RING,
    WAIT_S,
    WAITS,
    Figures,
    Size,
    grow,
    latencies,
    main,
    named,
    now,
    one_core,
    waiting,
)


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


class Passing(pykka.ThreadingActor):
    use_daemon_thread = True
    next: Any = None

    def on_receive(self, message: Any) -> None:
        left, body, gate = message
        if left:
            self.next.tell((left - 1, body, gate))
        else:
            gate()


class Hearing(pykka.ThreadingActor):
    """Counts what it hears; a gate among it is to be passed."""

    use_daemon_thread = True
    heard = 0

    def on_receive(self, message: Any) -> None:
        if message is BODY:
            self.heard += 1
        else:
            message()


class Working(Hearing):
    """Blocks for a millisecond."""

    def on_receive(self, message: Any) -> None:
        if message is BODY:
            time.sleep(0.001)
        else:
            message()


class Echo(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


class Sleeper(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message: Any) -> None:
        time.sleep(WAIT_S)
        message()


def ring(tokens: int, hops: int) -> float:
    """Hops per second round a ring."""
    refs = [Passing.start() for _ in range(RING)]
    for index, ref in enumerate(refs):
        ref.proxy().next = refs[(index + 1) % RING]

    def pass_round(each: int) -> float:
        gate = Gate(tokens)
        start = now()
        for ref in refs[:tokens]:
            ref.tell((each, BODY, gate))
        gate.open.wait()
        return round(each * tokens / (now() - start))

    pass_round(RING)
    rate = pass_round(hops // tokens)
    pykka.ActorRegistry.stop_all()
    return rate


def fan(kind: type[Hearing], count: int, rounds: int) -> float:
    """Deliveries per second to so many actors, each told so many times."""
    refs = [kind.start() for _ in range(count)]

    def tell_all(times: int) -> float:
        gate = Gate(count)
        start = now()
        for _ in range(times):
            for ref in refs:
                ref.tell(BODY)
        for ref in refs:
            ref.tell(gate)
        gate.open.wait()
        return round((times + 1) * count / (now() - start))

    tell_all(1)
    rate = tell_all(rounds)
    pykka.ActorRegistry.stop_all()
    return rate


def dormitory(count: int) -> Figures:
    """How long it takes until all have waited at the same time; at first with their start."""
    times: list[float] = []
    start = now()
    refs = [Sleeper.start() for _ in range(count)]
    for _ in range(WAITS):
        gate = Gate(count)
        for ref in refs:
            ref.tell(gate)
        gate.open.wait()
        times.append(now() - start)
        start = now()
    pykka.ActorRegistry.stop_all()
    return waiting(count, times)


def w1(size: Size) -> Figures:
    return {f"hops_s_{tokens}": ring(tokens, size.of(100_000)) for tokens in (1, 100)}


def w2(size: Size) -> Figures:
    return {"deliveries_s": fan(Hearing, LISTENERS, size.of(50))}


def w3(size: Size) -> Figures:
    count = size.of(10_000)
    with one_core():
        ref = Echo.start()
        out = latencies(lambda: ref.ask(BODY), count)
        ref.stop()
    ref = Echo.start()
    out |= named("free", latencies(lambda: ref.ask(BODY), count))
    ref.stop()
    return out


def w4(size: Size) -> Figures:
    count = size.n or 10_000
    _, us, kb = grow(count, lambda: [Echo.start() for _ in range(count)])
    return {"n": count, "us_per_agent": us, "kb_per_agent": kb}  # to stop them takes a minute


def w5(size: Size) -> Figures:
    return dormitory(size.n or 1000)


def w6(size: Size) -> Figures:
    return {
        "hops_s_1": ring(1, size.of(50_000)),
        "hops_s_100": ring(100, size.of(200_000)),
        "deliveries_s": fan(Hearing, LISTENERS, size.of(20)),
        "blocked_s": fan(Working, RING, size.of(100)),
        **dormitory(size.n or 1000),
    }


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6}

if __name__ == "__main__":
    main("pykka", WORKLOADS)
