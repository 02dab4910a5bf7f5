"""How much faster are prompts in one batch than one by one? With real weights, in this process.

    python benchmarks/batching.py --rounds 5 --prompts 16 --tokens 64

Needs the extra `llm-net[hf]` and the embedded model's weights. Both ways take turns, so that what
else the machine does hits both; the ratio is the median of the rounds' ratios. `queued` is the
batch as agents make it: asked one by one, from one event loop, through a `BatchProcessor`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice

from llm_net.llm.batching import Batched, BatchProcessor
from llm_net.llm.hf import HFModel
from llm_net.llm.model import Completion, Request

SUBJECTS = ("bread", "rivers", "clocks", "bridges", "salt", "wolves", "maps", "glass")


def requests(count: int, tokens: int) -> list[Request]:
    """Questions of one length, to be answered greedily."""
    system = {"role": "system", "content": "Answer."}
    return [
        Request(
            messages=(system, {"role": "user", "content": f"{n}: what are {subject}?"}),
            params={"max_tokens": tokens, "temperature": 0},
        )
        for n, subject in enumerate(islice(cycle(SUBJECTS), count))
    ]


def timed(
    ask: Callable[[Sequence[Request]], Sequence[Completion | Exception]],
    asked: Sequence[Request],
) -> tuple[float, list[str]]:
    """Seconds, and the texts."""
    start = time.perf_counter()
    answers = ask(asked)
    return time.perf_counter() - start, [str(answer) for answer in answers]


def measure(rounds: int, prompts: int, tokens: int) -> dict[str, object]:
    """The figures of one run."""
    model = HFModel("hf/smollm2-135m")
    asked = requests(prompts, tokens)
    model.complete_many(asked)  # loads, and warms up
    queued = Batched(BatchProcessor(model, max_batch=prompts))

    def one_by_one(asked: Sequence[Request]) -> list[Completion]:
        return [model.complete(request) for request in asked]

    def through_the_queue(asked: Sequence[Request]) -> list[Completion]:
        async def main() -> list[Completion]:
            return await asyncio.gather(*map(queued.acomplete, asked))

        return asyncio.run(main())

    singles, batches, queues, equal = list[float](), list[float](), list[float](), 0
    for _ in range(rounds):
        single, texts = timed(one_by_one, asked)
        batch, together = timed(model.complete_many, asked)
        queue, _ = timed(through_the_queue, asked)
        singles.append(single)
        batches.append(batch)
        queues.append(queue)
        equal = sum(a == b for a, b in zip(texts, together, strict=True))
    return {
        "prompts": prompts,
        "tokens": tokens,
        "singles_s": round(statistics.median(singles), 2),
        "batch_s": round(statistics.median(batches), 2),
        "queued_s": round(statistics.median(queues), 2),
        "ratio": round(statistics.median(map(_ratio, singles, batches)), 2),
        "ratio_queued": round(statistics.median(map(_ratio, singles, queues)), 2),
        "equal_texts": equal,
        "load": os.getloadavg()[0],
    }


def _ratio(single: float, batch: float) -> float:
    return single / batch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.prompts, options.tokens)))
