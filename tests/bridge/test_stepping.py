"""Stepping in parallel: what runs together, what never does, and what becomes of failures."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mesa
import pytest

from llm_net.errors import UsageError
from llm_net.reasoning.gate import GATE
from llm_net.reasoning.plan import Plan
from llm_net.reasoning.strategy import Reasoning
from mesa_bridge import threads
from mesa_bridge.activation import stand_in
from mesa_bridge.gate import Turn, later
from mesa_bridge.hook import enable_automatic_parallel_stepping
from mesa_bridge.options import Mode, Options
from mesa_bridge.randomness import planning_random
from mesa_bridge.stepping import (
    ParallelStepping,
    last_report,
    model_step_async,
    step_agents_multithreaded,
    step_agents_parallel,
    step_agents_parallel_sync,
)
from tests.bridge.thinking import (
    Awaiting,
    Blocking,
    Citizen,
    OneQuestion,
    Oracle,
    Program,
    Society,
    Twofold,
    digest,
)
from tests.waiting import DEADLINE_S, within_deadline

ONE_PLAN: Program = [[[("plan", 0)]]]
MODES: tuple[Mode, ...] = ("asyncio", "threading", "sequential")
KINDS = (Twofold, Awaiting, Blocking)


def of(kind: type[Citizen], size: int, oracle: Oracle | None = None, **more: Any) -> Society:
    return Society(more.pop("program", ONE_PLAN), oracle, kinds=(kind,), size=size, **more)


# What runs together.


@pytest.mark.parametrize("mode", ["asyncio", "threading"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_agents_ask_their_models_at_the_same_time(mode: Mode, kind: type[Citizen]) -> None:
    model = of(kind, 40, Oracle(together=40))
    report = ParallelStepping(model, mode).shuffle_do(model.agents, "step")
    assert (report.failures, report.plans, report.max_in_flight) == ((), 40, 40)


def test_a_class_of_which_nobody_knows_that_it_plans_plans_together_from_the_first_time() -> None:
    class Unknown(Blocking):
        """Has never been stepped before."""

    model = of(Unknown, 10, Oracle(together=10))
    assert step_agents_multithreaded(model.agents).max_in_flight == 10


@pytest.mark.parametrize("mode", ["asyncio", "threading"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_is_reached_and_never_passed(mode: Mode, kind: type[Citizen]) -> None:
    model = of(kind, 60, Oracle(together=3))
    report = ParallelStepping(model, mode, max_in_flight=3).do(model.agents, "step")
    assert (report.max_in_flight, model.oracle.most, report.plans) == (3, 3, 60)


def test_one_worker_makes_one_plan_at_a_time() -> None:
    model = of(Twofold, 5)
    report = ParallelStepping(model, "sequential").do(model.agents, "step")
    assert (report.max_in_flight, report.plans) == (1, 5)


@pytest.mark.parametrize("mode", MODES)
def test_all_have_looked_before_anybody_acts_and_they_act_in_the_same_order(mode: Mode) -> None:
    events: list[tuple[str, int]] = []

    class Watched(Twofold):
        def generate_obs(self) -> Any:
            events.append(("looks", self.unique_id))
            return super().generate_obs()

        def pay(self, number: int) -> None:
            events.append(("acts", self.unique_id))

    model = of(Watched, 6, program=[[[("plan", 0), ("pay", 0)]]])
    ParallelStepping(model, mode).shuffle_do(model.agents, "step")
    order = [number for _, number in events[:6]]
    assert order != sorted(order)
    assert events == [("looks", each) for each in order] + [("acts", each) for each in order]


def test_strategies_that_only_block_do_not_wait_for_a_thread() -> None:
    class ByHand(Reasoning):
        def plan(self, prompt: Any = None, *_: Any, **__: Any) -> Plan:
            self.agent.llm.generate("by hand")
            return Plan()

    class Worker(Citizen):
        async def astep(self) -> None:
            await ByHand(self).aplan()

    model = of(Worker, 60, Oracle(together=60))
    assert within_deadline(lambda: step_agents_parallel_sync(model.agents)).plans == 60


def test_two_plans_of_one_agent_may_be_made_at_once() -> None:
    class Divided(Citizen):
        async def astep(self) -> None:
            first, second = OneQuestion(self), OneQuestion(self)
            plans = await asyncio.gather(first.aplan("this"), second.aplan("that"))
            self.log += [plan.thoughts for plan in plans]

    model = of(Divided, 5, Oracle(together=10))
    report = within_deadline(lambda: step_agents_parallel_sync(model.agents))
    assert (report.plans, report.failures) == (10, ())
    assert all(len(set(agent.log)) == 2 for agent in model.agents)


def test_work_left_for_later_is_done_beside_that_of_others() -> None:
    class Tidy(Citizen):
        def _tidy(self) -> Any:
            return self.llm.agenerate(f"condense {self.unique_id}")

        def step(self) -> None:
            assert later(self._tidy)
            self.log.append("stepped")

        async def astep(self) -> None:
            self.step()

    for mode in ("asyncio", "threading"):
        model = of(Tidy, 8, Oracle(together=8))
        report = ParallelStepping(model, mode).do(model.agents, "step")
        assert (report.failures, model.oracle.most) == ((), 8)
    assert not later(lambda: None)


def test_anything_may_be_held_at_the_gate() -> None:
    class Asker(Citizen):
        async def astep(self) -> None:
            gate = GATE.get()
            assert isinstance(gate, Turn)
            self.log.append(await gate.ahold(lambda: self.llm.agenerate("anything")))

    model = of(Asker, 7, Oracle(together=7))
    assert step_agents_parallel_sync(model.agents).max_in_flight == 7
    assert all(agent.log for agent in model.agents)


# Whose turn it is.


@pytest.mark.parametrize("mode", MODES)
def test_an_agent_that_gives_up_waiting_goes_on_in_its_own_turn(mode: Mode) -> None:
    asked = asyncio.Event()

    class Hasty(Awaiting):
        async def astep(self) -> None:
            self.model.tick()
            try:
                async with asyncio.timeout(0):
                    await OneQuestion(self).aplan()
            except TimeoutError:
                self.log.append(self.model.tick())

    model = of(Hasty, 3)
    Twofold(model)
    model.program = ONE_PLAN
    order = list(model.agents)
    ParallelStepping(model, mode).do(model.agents, "step")
    assert not asked.is_set()
    assert [agent.log[0] for agent in order[:3]] == [4, 5, 6]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_that_is_removed_before_its_turn_is_skipped(
    mode: Mode, kind: type[Citizen]
) -> None:
    model = of(kind, 3, program=[[[("plan", 0)]], [[("eat", 2), ("plan", 0)]], [[("plan", 0)]]])
    everyone = list(model.agents)
    report = ParallelStepping(model, mode).do(model.agents.select(), "step")
    if kind is Blocking and hasattr(model.agents.select()._agents, "keyrefs"):
        assert everyone[2].log == []  # Mesa holds it weakly, and we hold it: it begins, no more
    else:
        assert (report.agents, report.plans, report.dropped) == (2, 2, ())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_who_is_removed_while_it_plans_acts_no_more_and_its_code_is_closed(
    mode: Mode, kind: type[Citizen]
) -> None:
    closed: list[int] = []

    class Victim(kind):  # type: ignore[valid-type,misc]
        def acts(self) -> Any:
            try:
                yield from super().acts()
            finally:
                closed.append(self.unique_id)

    program: Program = [
        [[("plan", 0), ("move", 0)]],  # the third
        [[("plan", 0), ("eat", 2)]],  # the first
        [[("plan", 0), ("move", 0)]],
    ]
    model = of(Victim, 3, program=program)
    everyone = list(model.agents)
    report = ParallelStepping(model, mode).do(model.agents, "step")
    gc.collect()  # closes the generators of blocking code
    assert (report.dropped, report.plans, report.failures) == ((3,), 3, ())
    assert everyone[2].log == []
    assert sorted(closed) == [1, 2, 3]


def test_no_model_is_asked_for_one_who_was_removed_before_plans_were_made() -> None:
    model = of(Twofold, 2, program=[[[("eat", 0)]], [[("plan", 0)]]])
    report = step_agents_parallel_sync(list(model.agents))
    assert (model.oracle.asked, report.plans, report.dropped) == (0, 0, (1,))


@pytest.mark.parametrize("mode", MODES)
def test_who_is_born_acts_from_the_next_activation_on(mode: Mode) -> None:
    model = of(Twofold, 1, program=[[[("plan", 0), ("bear", 0)]]])
    stepping = ParallelStepping(model, mode)
    assert [stepping.do(model.agents, "step").agents for _ in range(3)] == [1, 2, 4]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_activation_within_a_turn_runs_whole_inside_it(mode: Mode, kind: type[Citizen]) -> None:
    class Chief(kind):  # type: ignore[valid-type,misc]
        def hear(self, number: int) -> None:
            self.model.stepping.do(self.model.agents_by_type[Blocking], "step")
            self.log.append(self.model.tick())

    model = of(Chief, 2, program=[[[("hear", 0), ("plan", 0)]]])
    for _ in range(5):
        Blocking(model)
    model.stepping = ParallelStepping(model, mode)
    model.program = [[[("plan", 0)]], [[("hear", 0)]], [[("hear", 0)]], *[ONE_PLAN[0]] * 4]
    chiefs = model.agents_by_type[Chief]
    report = within_deadline(lambda: ParallelStepping(model, mode).do(chiefs, "step"))
    assert (report.agents, report.failures) == (2, ())
    # The first hears, and five others plan and end, before the second begins.
    assert [agent.log[0] for agent in chiefs] == [6, 12]


def test_activations_nest_through_loops_and_threads_as_deep_as_anybody_likes() -> None:
    class First(Citizen):
        async def astep(self) -> None:
            step_agents_parallel_sync(self.model.agents_by_type[Second])

    class Second(Citizen):
        reasoning = None

        def step(self) -> None:
            OneQuestion(self).plan()
            step_agents_parallel_sync(self.model.agents_by_type[Awaiting])

    model = Society(ONE_PLAN, kinds=(First, Second, Awaiting), size=6)
    for _ in range(2):  # once in place, once in threads of their own
        within_deadline(lambda: step_agents_parallel_sync(model.agents_by_type[First]))
    assert [len(agent.log) for agent in model.agents_by_type[Awaiting]] == [8, 8]


@pytest.mark.parametrize("mode", MODES)
def test_one_of_step_and_astep_is_enough_and_the_mode_says_which_is_preferred(mode: Mode) -> None:
    class Both(Citizen):
        def step(self) -> None:
            self.log.append("step")

        async def astep(self) -> None:
            self.log.append("astep")

    class Base(Citizen):
        @stand_in
        def step(self) -> None:
            raise AssertionError

        @stand_in
        async def astep(self) -> None:
            raise AssertionError

    class Sync(Base):
        def step(self) -> None:
            self.log.append("step")

    class Async(Base):
        async def astep(self) -> None:
            self.log.append("astep")

    model = Society(ONE_PLAN, kinds=(Both, Sync, Async), size=3)
    ParallelStepping(model, mode).do(model.agents, "step")
    preferred = "step" if mode == "threading" else "astep"
    assert [agent.log for agent in model.agents] == [[preferred], ["step"], ["astep"]]


def test_any_method_may_be_activated_with_arguments_and_by_its_async_twin() -> None:
    class Stager(Citizen):
        async def abid(self, price: int, *, high: bool) -> None:
            self.log.append((price, high))

    model = of(Stager, 2)
    ParallelStepping(model).do(model.agents, "bid", 3, high=True)
    assert [agent.log for agent in model.agents] == [[(3, True)], [(3, True)]]


def test_a_method_that_nobody_has_is_an_error_of_the_caller() -> None:
    model = of(Twofold, 2)
    with pytest.raises(AttributeError, match="stpe"):
        ParallelStepping(model).do(model.agents, "stpe")
    assert ParallelStepping(model).do(model.agents, "step").agents == 2


def test_a_blocking_plan_inside_of_a_coroutine_is_made_at_once_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Muddled(Citizen):
        async def astep(self) -> None:
            OneQuestion(self).plan()
            self.log.append(self.model.tick())

    model = of(Muddled, 2)
    with caplog.at_level(logging.WARNING, "mesa_bridge"):
        step_agents_parallel_sync(model.agents)
    assert [agent.log for agent in model.agents] == [[1], [2]]
    assert "Muddled plans by a blocking call" in caplog.text


# Failures.


def failing(mode: Mode, on_error: Any) -> tuple[Society, ParallelStepping]:
    model = of(Twofold, 4, program=[*[ONE_PLAN[0]] * 2, [[("plan", 0), ("fail", 9)]], *ONE_PLAN])
    return model, ParallelStepping(model, mode, on_error=on_error)


@pytest.mark.parametrize("mode", MODES)
def test_a_failing_agent_is_recorded_and_harms_nobody(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    model, stepping = failing(mode, "skip")
    report = stepping.do(model.agents, "step")
    assert [str(each) for each in report.failures] == ["Twofold 2: RuntimeError: failed 9 at 3"]
    assert "in fail" in report.failures[0].details
    assert [len(agent.log) for agent in model.agents] == [1, 1, 1, 1]
    assert "Twofold 2" in caplog.text


def test_what_fails_all_alike_is_told_of_each_and_shown_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Keyless(Citizen):
        async def astep(self) -> None:
            raise RuntimeError("there is no key")

    report = step_agents_parallel_sync(of(Keyless, 3).agents)
    assert sum("there is no key" in each.getMessage() for each in caplog.records) == 3
    assert caplog.text.count("Traceback") == 1
    assert "Traceback" not in repr(report)
    assert all("Traceback" in failure.details for failure in report.failures)


@pytest.mark.parametrize("mode", MODES)
def test_with_raise_all_others_are_done_before_it_is_raised(mode: Mode) -> None:
    model, stepping = failing(mode, "raise")
    with pytest.raises(ExceptionGroup, match="1 of 4 agents failed in 'step'") as caught:
        stepping.do(model.agents, "step")
    assert [type(each) for each in caught.value.exceptions] == [RuntimeError]
    assert [len(agent.log) for agent in model.agents] == [1, 1, 1, 1]
    report = last_report(model)
    assert report is not None
    assert len(report.failures) == 1


@pytest.mark.parametrize("mode", MODES)
def test_with_retry_a_plan_that_fails_is_made_once_more(mode: Mode) -> None:
    class Shaky(Oracle):
        def _end(self, prompt: str) -> str:
            if self.asked == 1:
                raise ConnectionError
            return super()._end(prompt)

    model = of(Twofold, 1, Shaky())
    report = ParallelStepping(model, mode, on_error="retry").do(model.agents, "step")
    assert (report.failures, model.oracle.asked) == ((), 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_function_may_act_for_who_failed_in_its_turn(mode: Mode) -> None:
    def act(agent: Any, error: Exception) -> None:
        agent.log.append((str(error)[:8], agent.model.tick()))
        raise LookupError

    model, stepping = failing(mode, act)
    report = stepping.do(model.agents, "step")
    assert [agent.log[-1][-1] for agent in model.agents] == [1, 4, 5, 6]
    assert [each.error for each in report.failures] == [
        "RuntimeError: failed 9 at 3",
        "LookupError",
    ]


class Stumbling(Society):
    """Its step fails with what its agents raised, in the steps that it is told."""

    catches = False

    def step(self) -> None:
        self.tick()
        stepping = ParallelStepping(self, on_error="raise")
        try:
            stepping.do(self.agents, "step")
        except ExceptionGroup:
            if not self.catches:
                raise


@pytest.mark.parametrize("catches", [False, True])
def test_a_model_steps_on_after_an_exception_has_left_its_step(catches: bool) -> None:  # noqa: FBT001
    model = Stumbling([[[], [("fail", 0)], [("fail", 0)], []]], size=2)
    model.catches = catches
    raised = 0
    for _ in range(8):
        try:
            model.step()
        except ExceptionGroup:
            raised += 1
    # Two agents fail, so two ticks more, in every second pair of steps.
    assert (model.steps, raised) == (8, 0 if catches else 4)
    assert model.ticks == 8 + 2 * 4


def test_a_model_that_has_stumbled_pickles_and_steps_on() -> None:
    model = Stumbling([[[("fail", 0)], []]], Portable(), size=1)
    model.steps = 1
    with pytest.raises(ExceptionGroup):
        model.step()
    again = pickle.loads(pickle.dumps(model))
    again.step()
    assert again.steps == model.steps + 1


def test_the_keyboard_ends_the_activation_and_the_model_steps_on() -> None:
    class Interrupted(Citizen):
        def step(self) -> None:
            raise KeyboardInterrupt

    model = of(Interrupted, 2)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), enable_automatic_parallel_stepping(model):
            model.step()
    assert model.steps == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_keyboard_ends_the_wait_for_plans_that_never_come(kind: type[Citizen]) -> None:
    heard = threading.Event()

    def interrupt(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def press() -> None:
        while not heard.is_set():  # a signal in the moment before a thread blocks wakes nobody
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            heard.wait(0.1)

    class Silent(Oracle):
        def generate(self, prompt: str, **_: Any) -> str:
            self._hang()
            threading.Event().wait(DEADLINE_S)
            return ""

        async def agenerate(self, prompt: str, **_: Any) -> str:
            self._hang()
            await asyncio.sleep(DEADLINE_S)
            return ""

        def _hang(self) -> None:
            self._begin()
            if self.asked == 3:
                threading.Thread(target=press).start()

    model = of(kind, 3, Silent())
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            ParallelStepping(model).do(model.agents, "step")
    finally:
        signal.signal(signal.SIGINT, before)
    model.oracle = Oracle()
    assert ParallelStepping(model).do(model.agents, "step").failures == ()


# Loops and threads.


def test_blocking_words_work_where_a_loop_is_running() -> None:
    async def notebook() -> Any:
        model = of(Twofold, 5, Oracle(together=5))
        return step_agents_parallel_sync(model.agents)

    assert asyncio.run(notebook()).max_in_flight == 5


@pytest.mark.parametrize("step", [step_agents_parallel, None])
def test_async_words_leave_the_loop_to_others(step: Callable[..., Any] | None) -> None:
    answered = threading.Event()

    class Patient(Oracle):
        def generate(self, prompt: str, **_: Any) -> str:
            assert answered.wait(DEADLINE_S)
            return "at last"

    async def solara() -> None:
        model = of(Blocking, 2, Patient())
        stepping = asyncio.ensure_future(
            model_step_async(model) if step is None else step(model.agents)
        )
        await asyncio.sleep(0)
        answered.set()
        await stepping

    asyncio.run(asyncio.wait_for(solara(), DEADLINE_S))


def test_one_step_of_a_model_is_made_at_a_time() -> None:
    inside: list[int] = []

    class Narrow(Society):
        def step(self) -> None:
            inside.append(self.steps)
            super().step()
            inside.append(self.steps)

    model = Narrow(ONE_PLAN)

    async def both() -> None:
        with enable_automatic_parallel_stepping(model):
            await asyncio.gather(*(model_step_async(model) for _ in range(3)))

    asyncio.run(both())
    assert inside == [1, 1, 2, 2, 3, 3]


def test_steps_may_come_from_different_threads_and_loops() -> None:
    model = of(Twofold, 3)
    with enable_automatic_parallel_stepping(model):
        for _ in range(3):
            within_deadline(model.step)
        asyncio.run(model_step_async(model))
    assert all(len(agent.log) == 4 for agent in model.agents)


def test_plain_agents_stay_in_the_callers_thread() -> None:
    class Plain(Citizen):
        def step(self) -> None:
            self.log.append(threading.get_ident())

    model = Society(ONE_PLAN, kinds=(Twofold, Plain), size=6)
    step_agents_multithreaded(model.agents)
    assert {agent.log[0] for agent in model.agents_by_type[Plain]} == {threading.get_ident()}


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_nothing_is_left_over_of_many_steps_and_models(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "mesa_bridge")  # pytest keeps exceptions that are logged

    def live(steps: int) -> weakref.ref[Society]:
        model = Society([[[("plan", 0), ("fail", 1)]], *ONE_PLAN], kinds=KINDS, size=6)
        with enable_automatic_parallel_stepping(model):
            for _ in range(steps):
                model.step()
        getattr(mesa.Agent, "_ids", {}).clear()  # Mesa 3.3 keeps every model there
        return weakref.ref(model)

    live(1)
    before, loops = threading.active_count(), len(threads._loops)
    files = open_files()
    models = [live(1) for _ in range(20)] + [live(200)]
    gc.collect()
    assert [each() for each in models] == [None] * 21
    assert len(threads._loops) == loops
    assert threading.active_count() <= before + 2
    assert open_files() == files


class Portable(Oracle):
    """Can be copied, with no trouble about its lock."""

    def __reduce__(self) -> Any:
        return (Portable, ())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_copied_with_nothing_of_ours_on_it(copied: Callable[..., Any]) -> None:
    def run(model: Society, steps: int) -> Society:
        with enable_automatic_parallel_stepping(model):
            for _ in range(steps):
                model.step()
        return model

    program: Program = [[[("plan", 0), ("move", 1), ("plan", 2), ("pay", 2)]]]
    whole, first = (Society(program, Portable(), kinds=KINDS, size=6) for _ in range(2))
    words = set(vars(first))
    resumed = copied(run(first, 2))
    assert set(vars(resumed)) == words
    assert digest(run(resumed, 2)) == digest(run(whole, 4))


class Twice(Reasoning):
    """Makes a plan of two plans."""

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        plans = [OneQuestion(self.agent).plan(prompt=word) for word in ("first", "second")]
        return Plan(step=0, thoughts=" ".join(each.thoughts for each in plans))

    async def aplan(self, *args: Any, **kwargs: Any) -> Plan:
        plans = [await OneQuestion(self.agent).aplan(prompt=word) for word in ("first", "second")]
        return Plan(step=0, thoughts=" ".join(each.thoughts for each in plans))


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_within_a_plan_is_a_part_of_it(mode: Mode) -> None:
    model = of(Twofold, 3)
    for agent in model.agents:
        agent.reasoning = Twice(agent)
    report = within_deadline(lambda: ParallelStepping(model, mode).do(model.agents, "step"))
    assert report.plans == 3
    assert [len(agent.log[0][0].split()) for agent in model.agents] == [2, 2, 2]


# What a plan may draw.


def test_planning_draws_nothing_from_the_models_stream_and_never_the_same_twice() -> None:
    class Gambler(Twofold):
        def acts(self) -> Any:
            for _ in range(2):
                yield "plan"

    drawn: list[float] = []

    class Drawing(OneQuestion):
        def flow(self, task: Any) -> Any:
            drawn.append(planning_random(self.agent).random())
            drawn.append(float(self.agent.rng.random()))
            return (yield from super().flow(task))

    model = of(Gambler, 2)
    for agent in model.agents:
        agent.reasoning = Drawing(agent)
    before = model.random.getstate(), str(model.rng.bit_generator.state)
    step_agents_parallel_sync(model.agents)
    assert (model.random.getstate(), str(model.rng.bit_generator.state)) == before
    assert len(set(drawn)) == 8
    assert planning_random(next(iter(model.agents))) is model.random


# The report, the budget's seam, the options.


def test_the_report_says_how_near_the_ideal_it_was() -> None:
    model = of(Twofold, 6, Oracle(together=2))
    report = ParallelStepping(model, max_in_flight=2).do(model.agents, "step")
    assert last_report(model) == report
    assert 0 < report.ideal_s <= report.wall_s
    assert 1 <= report.mean_in_flight <= 2
    assert last_report(of(Twofold, 1)) is None


def test_a_budget_hears_of_all_plans_in_order_before_any_is_made() -> None:
    heard: list[list[tuple[int, str]]] = []
    model = of(Twofold, 4)

    def hear(plans: Any) -> None:
        heard.append([(agent.unique_id, type(mind).__name__) for agent, mind in plans])
        assert model.oracle.asked == 0

    ParallelStepping(model, before_plans=hear).do(model.agents, "step")
    assert heard == [[(number, "OneQuestion") for number in range(1, 5)]]


def test_a_list_is_stepped_in_its_own_order_and_may_be_empty() -> None:
    model = of(Twofold, 3)
    step_agents_parallel_sync(reversed(list(model.agents)))
    assert [agent.log[0][1] for agent in model.agents] == [3, 2, 1]
    assert step_agents_parallel_sync([]).agents == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "async"}, "asyncio, threading, sequential"),
        ({"max_in_flight": 0}, "Give 1 or more"),
        ({"max_in_flight": True}, "Give 1 or more"),
        ({"on_error": "ignore"}, "'skip', 'raise', 'retry'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options(**options)
