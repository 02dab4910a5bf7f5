"""Calls of models in a deterministic run: side by side, and let in in the order of the calls."""

from __future__ import annotations

import threading

import pytest

from llm_net import Deterministic, GenAgent, GenNetwork, Message, ModuleLLM, Request

DEADLINE = 10
COUNT = 5


CALLS: list[str] = []


class Asking(GenAgent):
    llm: ModuleLLM

    async def astep(self, message: Message) -> None:
        CALLS.append(self.name)
        self.emit("out", str(await self.llm.agenerate(self.name)))


class AskingOnAThread(GenAgent):
    llm: ModuleLLM

    def step(self, message: Message) -> None:
        CALLS.append(self.name)
        self.emit("out", str(self.llm.generate(self.name)))


@pytest.mark.parametrize("kind", [Asking, AskingOnAThread])
def test_calls_run_side_by_side_and_come_back_in_order(
    kind: type[Asking | AskingOnAThread],
) -> None:
    names = [f"a{number}" for number in range(COUNT)]
    traces: list[str | None] = []
    for _ in range(2):
        CALLS.clear()
        all_are_out = threading.Barrier(COUNT)

        def answer(request: Request, together: threading.Barrier = all_are_out) -> str:
            together.wait(DEADLINE)
            return str(request.messages[-1]["content"]).upper()

        llm = ModuleLLM(answer)
        net = GenNetwork(
            name="net",
            agents=[kind(name=name, llm=llm) for name in names],
            entry=names,
            expose=["out"],
        )
        run = net.run("go", runtime=Deterministic(4))
        assert run.failures == ()
        assert [output.body.lower() for output in run.outputs] == CALLS
        assert sorted(CALLS) == names
        traces.append(run.trace)
    assert traces[0] == traces[1]


def test_a_call_takes_no_virtual_time_and_holds_back_no_timer_that_was_due() -> None:
    class Clocked(GenAgent):
        llm: ModuleLLM

        async def astep(self, message: Message) -> str:
            before = self.now()
            await self.llm.agenerate("x")
            return str((self.now() - before).total_seconds())

        async def atick(self, message: Message) -> None:
            """Time goes on elsewhere."""

    agent = Clocked(llm=ModuleLLM(lambda _request: "answer"))
    net = GenNetwork(agents=[agent], entry="clocked")
    assert net.run("go", runtime=Deterministic(0)).outputs[0].body == "0.0"
