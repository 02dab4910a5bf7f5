"""How far a run is: the figures are the budget's, and shown while a step is under way, too."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import mesa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llm_net import Budget, ModuleLLM
from mesa_bridge import CoTReasoning, LLMAgent, enable_automatic_parallel_stepping
from mesa_bridge.checkpoints import resume, run_model
from mesa_bridge.progress import Meter, Progress, budget_of, line, showing
from tests.waiting import DEADLINE_S


class Town(mesa.Model):
    """People who ask a model once a step, and pay from the town's budget."""

    def __init__(self, people: int = 2, answer: Any = lambda request: "I see.") -> None:
        super().__init__(rng=1)
        self.budget = Budget()
        self.llm = ModuleLLM(answer, budget=self.budget)
        for _ in range(people):
            Person(self)

    def step(self) -> None:
        self.agents.do("step")


class Person(LLMAgent):
    def __init__(self, model: Town) -> None:
        super().__init__(model, CoTReasoning)
        self.llm = model.llm

    def step(self) -> None:
        self.apply_plan(self.reasoning.plan("What do you see?", tool_calls="none"))


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


# -- figures


def test_after_each_step_a_function_is_told_how_far_it_is() -> None:
    town, told = Town(people=2), list[Progress]()

    run_model(town, 3, progress=told.append)

    assert [(each.steps, each.wanted, each.calls) for each in told] == [
        (1, 3, 2),
        (2, 3, 4),
        (3, 3, 6),
    ]
    assert [each.in_flight for each in told] == [0, 0, 0]
    assert told[-1].tokens == town.budget.spent.tokens > 0
    assert told[-1].usd == 0
    assert told[-1].left_s == 0


def test_calls_under_way_are_counted_while_the_step_is_not_over() -> None:
    meeting = threading.Barrier(3)

    def slow(request: Any) -> str:
        meeting.wait(DEADLINE_S)  # both are asked
        meeting.wait(DEADLINE_S)  # the test has looked
        return "At last."

    town = Town(people=2, answer=slow)
    meter = Meter(town, 1)
    with enable_automatic_parallel_stepping(town, "threading"):
        stepping = threading.Thread(target=town.step)
        stepping.start()
        meeting.wait(DEADLINE_S)
        meanwhile = meter.now()
        meeting.wait(DEADLINE_S)
        stepping.join(DEADLINE_S)

    assert (meanwhile.steps, meanwhile.calls, meanwhile.in_flight) == (0, 0, 2)
    assert (meter.now().calls, meter.now().in_flight) == (2, 0)


@given(
    wanted=st.integers(1, 50),
    share=st.floats(0, 1),
    seconds=st.floats(0, 1e6),
)
def test_time_left_goes_by_the_mean_of_the_steps_so_far(
    wanted: int, share: float, seconds: float
) -> None:
    clock = Hands()
    meter = Meter(mesa.Model(rng=1), wanted, clock=clock)
    clock.seconds = seconds
    meter.steps = int(share * wanted)

    now = meter.now()

    assert now.elapsed_s == seconds
    if meter.steps == 0:
        assert now.left_s is None
    else:
        whole = seconds / meter.steps * wanted
        assert now.left_s == pytest.approx(whole - seconds, abs=1e-6 * max(whole, 1))


@pytest.mark.parametrize("budget", [None, 12.5])
def test_without_a_budget_for_calls_nothing_is_said_of_them(budget: Any) -> None:
    model: Any = mesa.Model(rng=1)
    model.budget = budget  # a household's, say
    told = list[Progress]()

    run_model(model, 1, progress=told.append)

    [last] = told
    assert budget_of(model) is None
    assert (last.calls, last.in_flight, last.tokens, last.usd) == (None, None, None, None)
    assert str(last) == "step 1/1, 0:00:00 gone"


def test_a_line_has_steps_calls_what_they_cost_and_the_time_left() -> None:
    now = Progress(
        steps=3,
        wanted=10,
        calls=1200,
        in_flight=7,
        tokens=45_000,
        usd=0.12,
        elapsed_s=63.2,
        left_s=147.4,
    )

    assert str(now) == ("step 3/10, 1,200 calls, 7 under way, 45,000 tokens, $0.1200, 0:02:27 left")


def test_a_resumed_run_shows_what_the_budget_has_spent_in_its_life(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    told = list[Progress]()
    run_model(Short(), 4, checkpoint_every=1, path=path)

    resume(path, progress=told.append)

    assert [(each.steps, each.wanted) for each in told] == [(1, 2), (2, 2)]
    assert [each.calls for each in told] == [6, 8]


class Short(Town):
    """Its run is over after two steps, if nobody takes it up again."""

    def step(self) -> None:
        super().step()
        self.running = self.steps != 2

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.running = True


# -- the line


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=200, legacy_windows=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_line_is_read_anew_while_a_step_is_under_way(terminal: Console) -> None:
    town = Town()
    clock = Hands()
    meter = Meter(town, 2, clock=clock)

    with line(meter, terminal) as refresh:
        town.agents.do("step")  # a step that is not over yet
        clock.seconds = 5.0
        refresh()
        assert "step 0/2, 2 calls, 0 under way" in written(terminal)
        assert "0:00:05 gone" in written(terminal)
        meter.steps = 1
        refresh()

    assert "step 1/2" in written(terminal)
    assert "0:00:05 left" in written(terminal)


def test_in_a_log_there_is_the_last_state_alone() -> None:
    log = Console(file=io.StringIO(), force_terminal=False, width=200)
    meter = Meter(mesa.Model(rng=1), 3)

    with line(meter, log) as refresh:
        for meter.steps in (1, 2, 3):
            refresh()

    assert written(log).count("step") == 1
    assert "step 3/3" in written(log)


def test_progress_goes_to_the_standard_error_and_only_if_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_model(Town(), 2)
    assert capsys.readouterr() == ("", "")

    run_model(Town(), 2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 2/2" in err


def test_a_run_that_fails_leaves_no_thread_of_the_line_behind(terminal: Console) -> None:
    meter = Meter(mesa.Model(rng=1), 1)
    before = threading.active_count()

    with pytest.raises(RuntimeError, match="lightning"), line(meter, terminal):
        raise RuntimeError("lightning")

    assert threading.active_count() == before


def test_without_progress_nobody_asks_how_far_it_is() -> None:
    class Unasked(mesa.Model):
        @property
        def budget(self) -> Any:
            raise AssertionError("somebody asked")

    with showing(Meter(Unasked(rng=1), 1), progress=False) as show:
        show()
    assert run_model(Unasked(rng=1), 3).steps == 3
