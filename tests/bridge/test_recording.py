"""Recordings: every event of every agent, in a file that is whole or not there."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import mesa
import pytest

from llm_net import UsageError
from llm_net.reasoning.cot import CoTReasoning
from mesa_bridge.llm_agent import LLMAgent
from mesa_bridge.recording import SimulationRecorder, record, record_model


def greet(request: Any) -> Any:
    return {
        "content": "Say hello.",
        "tool_calls": [
            {
                "name": "speak_to",
                "arguments": '{"listener_agents_unique_ids": [2], "message": "Hello"}',
            }
        ],
    }


class Speaker(LLMAgent):
    def step(self) -> None:
        if self.unique_id == 1:
            self.apply_plan(self.reasoning.plan("Speak.", obs=self.generate_obs()))


@record_model
class Town(mesa.Model):
    recorder: SimulationRecorder
    save_recording: Any

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(rng=1)
        if folder is not None:
            self.recorder.output_dir = folder
        for _ in range(2):
            Speaker(self, CoTReasoning, greet)

    def step(self) -> None:
        self.agents.do("step")


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_every_event_of_an_agent_is_in_the_recording_in_order(town: Town) -> None:
    town.step()
    told = [(each.event_type, each.agent_id, each.step) for each in town.recorder.events]
    assert told == [
        ("step_start", None, 1),
        ("observation", 1, 1),
        ("plan", 1, 1),
        ("message", 1, 1),
        ("action", 1, 1),
        ("step_end", None, 1),
    ]
    plan, message, action = (town.recorder.events[n].content for n in (2, 3, 4))
    assert plan["thoughts"] == "Say hello."
    assert plan["actions"][0]["name"] == "speak_to"
    assert message == {"message": "Hello", "recipients": [2]}
    assert action["arguments"]["message"] == "Hello"
    assert "told Speaker 2" in action["response"]


def test_events_are_found_by_agent_type_and_step(town: Town) -> None:
    town.step()
    town.step()
    recorder = town.recorder
    assert {each.agent_id for each in recorder.get_agent_events(1)} == {1}
    assert len(recorder.get_events_by_type("plan")) == 2
    assert {each.step for each in recorder.get_events_by_step(2)} == {2}
    assert len(recorder.get_events_by_step(1)) + len(recorder.get_events_by_step(2)) == len(
        recorder.events
    )


def test_an_event_of_ones_own_has_the_step_of_the_one_before(town: Town) -> None:
    town.step()
    town.recorder.record_event("harvest", {"tons": 3})
    record(next(iter(town.agents)), "yawn", None)
    assert [each.step for each in town.recorder.events[-2:]] == [1, 1]
    assert town.recorder.events[-1].agent_id == 1


def test_an_event_is_a_copy_that_nothing_reaches_any_more(town: Town) -> None:
    goods = ["apples"]
    town.recorder.record_event("market", goods)
    goods.append("pears")
    assert town.recorder.events[-1].content == ["apples"]


@pytest.mark.parametrize("form", ["json", "pickle"])
def test_a_saved_recording_is_read_again(town: Town, form: Any) -> None:
    town.step()
    path = town.save_recording(format=form)
    data = path.read_bytes()
    told = json.loads(data) if form == "json" else pickle.loads(data)
    assert told == town.recorder.to_dict()
    assert told["model"] == "Town"
    assert town.save_recording("named.json").name == "named.json"


def test_a_format_that_does_not_exist_is_refused(town: Town) -> None:
    with pytest.raises(UsageError, match="'xml'"):
        town.save_recording(format="xml")


def test_a_file_is_replaced_whole_or_not_at_all(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.step()
    before = town.save_recording().read_bytes()
    town.step()

    def crash(number: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        town.save_recording()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before]


def test_the_steps_that_were_asked_for_are_saved_to_one_file(tmp_path: Path) -> None:
    @record_model(output_dir=tmp_path, auto_save_interval=2)
    class Village(mesa.Model):
        def step(self) -> None:
            pass

    village = Village(rng=1)
    files = []
    for _ in range(4):
        village.step()
        files.append([json.loads(each.read_bytes()) for each in tmp_path.iterdir()])
    assert [len(each) for each in files] == [0, 1, 1, 1]
    assert len(files[3][0]["events"]) == 8


@pytest.mark.parametrize("interval", [0, -1, True])
def test_an_interval_that_is_no_number_of_steps_is_refused(interval: Any) -> None:
    with pytest.raises(UsageError, match="auto_save_interval"):
        SimulationRecorder(None, auto_save_interval=interval)


def test_a_step_that_fails_is_recorded_to_its_end(tmp_path: Path) -> None:
    @record_model(output_dir=tmp_path)
    class Broken(mesa.Model):
        recorder: SimulationRecorder

        def step(self) -> None:
            raise RuntimeError("broken")

    broken = Broken(rng=1)
    with pytest.raises(RuntimeError, match="broken"):
        broken.step()
    assert [each.event_type for each in broken.recorder.events] == ["step_start", "step_end"]


def test_a_recording_keeps_no_model_alive_and_is_saved_when_the_model_goes(
    tmp_path: Path,
) -> None:
    town = Town(tmp_path)
    town.step()
    recorder, gone = town.recorder, weakref.ref(town)
    getattr(mesa.Agent, "_ids", {}).pop(town, None)  # Mesa 3.3 holds every model here
    del town
    gc.collect()
    assert gone() is None
    saved = [json.loads(each.read_bytes()) for each in tmp_path.iterdir()]
    assert saved == [recorder.to_dict()]


def test_nothing_is_written_twice_and_nothing_where_nothing_happened(tmp_path: Path) -> None:
    for steps in (0, 1):
        town = Town(tmp_path)
        for _ in range(steps):
            town.step()
            town.save_recording("mine.json")
        getattr(mesa.Agent, "_ids", {}).pop(town, None)
        del town
        gc.collect()
    assert [each.name for each in tmp_path.iterdir()] == ["mine.json"]


def test_a_copy_goes_on_with_a_recording_of_its_own(town: Town, tmp_path: Path) -> None:
    town.step()
    twin = copy.deepcopy(town)
    twin.step()
    assert len(town.recorder.events) == 6
    assert len(twin.recorder.events) == 12
    assert twin.recorder.simulation_id != town.recorder.simulation_id
    restored = pickle.loads(pickle.dumps(town))
    restored.step()
    assert restored.recorder.simulation_id == town.recorder.simulation_id
    assert [each.event_type for each in restored.recorder.events] == [
        each.event_type for each in twin.recorder.events
    ]


PROGRAM = """
import mesa
from mesa_bridge.recording import record_model

@record_model(output_dir={folder!r})
class Town(mesa.Model):
    def step(self):
        pass

town = Town(rng=1)
town.step()
"""


def test_what_was_not_saved_is_when_the_process_ends(tmp_path: Path) -> None:
    program = PROGRAM.format(folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    (saved,) = tmp_path.iterdir()
    assert len(json.loads(saved.read_bytes())["events"]) == 2


def test_agents_of_a_model_that_is_not_recorded_go_without() -> None:
    model = mesa.Model(rng=1)
    agent = Speaker(model, CoTReasoning, greet)
    record(agent, "yawn", None)
    assert agent.recorder is None
    agent.recorder = SimulationRecorder(model)
    record(agent, "yawn", None)
    assert [each.event_type for each in agent.recorder.events] == ["yawn"]
