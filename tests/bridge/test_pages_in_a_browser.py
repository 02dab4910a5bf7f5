"""The pages of the examples, as a person uses them: in a browser, with a click on Step.

On recorded answers, without a network. Set PAGES_SEEN to a folder to keep pictures of the pages.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.bridge.browser import CHROMIUM, ROOT, opened, served, waited

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.skipif(
        int(version("ipyvuetify").split(".")[0]) > 1,
        reason="Mesa's own pages stay empty with ipyvuetify 3: pip install 'ipyvuetify<2'",
    ),
]

PAGES = {
    "civil_violence": ("saw", "decide(", "latest activation"),
    "buyers_and_sellers": ("I would pay", "offer(", "latest activation"),
    "sugar_trade": ("I propose a trade", "propose_trade(", "latest activation"),
    "town": ("marin said", "question", "latest activation"),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", PAGES)
def test_a_click_on_step_shows_the_step_and_what_agents_thought_and_did(
    example: str, tmp_path: Path
) -> None:
    page = ROOT / "examples" / example / "page.py"
    log = tmp_path / "server.log"
    with served(page, log) as address, opened(address, tmp_path / "profile") as tab:
        before = tab.wait_for("STEP", "Nothing is recorded yet.")
        assert "latest activation" not in before
        tab.click("step")
        tab.wait_for(*PAGES[example])
        assert tab.run("/(Step: 1|Time: 1(\\.0)?)\\b/.test(document.body.innerText)")
        tab.screenshot(Path(os.environ.get("PAGES_SEEN", tmp_path)) / f"{example}.png")
        tab.click("reset")
        tab.wait_for("Nothing is recorded yet.")
        tab.click("step")  # on a recording that begins anew
        assert "failed:" not in tab.wait_for(*PAGES[example])
        assert tab.errors == []
    assert "Traceback" not in log.read_text()


@pytest.mark.timeout(400)
def test_an_agent_that_is_chosen_stays_chosen_while_the_model_plays_to_its_end(
    tmp_path: Path,
) -> None:
    page = ROOT / "examples" / "civil_violence" / "page.py"
    with (
        served(page, tmp_path / "server.log") as address,
        opened(address, tmp_path / "profile") as tab,
    ):
        tab.click("step")
        tab.wait_for("Agent 1 in step 1 saw")
        tab.choose("Agent", "2")
        tab.wait_for("Agent 2 in step 1 saw", "spent: 6 calls")
        tab.click("▶")
        tab.wait_for("Agent 2 in step 3 saw")  # the last one that is recorded
        tab.screenshot(Path(os.environ.get("PAGES_SEEN", tmp_path)) / "civil_violence_played.png")
        disabled = "document.querySelectorAll('button:disabled').length"
        waited(lambda: tab.run(disabled), lambda many: many == 2)  # play, and step
        assert tab.errors == []


HOSTILE = "<img src=x onerror='window.taken=1'><script>window.taken=1</script> **bold**"
HOSTILE_PAGE = f"""
import mesa
from mesa.visualization import SolaraViz
from llm_net import GenAgent, GenNetwork, Message
from mesa_bridge import NetworkAgent, SimulationRecorder
from mesa_bridge.viz import AgentMind, Conversation, NetworkView

WORDS = {HOSTILE!r}


class Speaker(GenAgent):
    def step(self, message: Message) -> str:
        return WORDS


class Town(mesa.Model):
    def __init__(self) -> None:
        super().__init__(rng=1)
        self.recorder = SimulationRecorder(self)
        speaker = Speaker(name=WORDS.replace("/", ""))
        network = GenNetwork(name="house", agents=[speaker], entry=speaker.name)
        self.house = NetworkAgent(self, network)

    def step(self) -> None:
        self.house.step()
        done = {{"name": WORDS, "response": WORDS, "arguments": {{WORDS: WORDS}}}}
        said = {{"message": WORDS, "recipients": [1]}}
        for kind, content in [
            ("observation", {{WORDS: WORDS}}),
            ("plan", {{"thoughts": WORDS}}),
            ("action", done),
            ("message", said),
        ]:
            self.recorder.record_event(kind, content, step=self.steps, agent_id=1)


page = SolaraViz(Town(), components=[AgentMind(), NetworkView(), Conversation()])
"""


@pytest.mark.timeout(400)
def test_what_a_hostile_model_writes_is_text_on_the_page_and_never_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text(HOSTILE_PAGE, encoding="utf-8")
    with (
        served(page, tmp_path / "server.log") as address,
        opened(address, tmp_path / "profile") as tab,
    ):
        tab.wait_for("STEP", "Nothing is recorded yet.")
        tab.click("step")
        text = tab.wait_for(HOSTILE, "step 1: 1 to 1")
        assert text.count(HOSTILE) >= 8, "each of its words, as it wrote them"
        assert tab.run("window.taken") is None
        assert tab.run("document.querySelectorAll('img[src=x]').length") == 0
