"""The pages of the examples, as a person uses them: in a browser, with a click on Step.

On recorded answers, without a network. Set PAGES_SEEN to a folder to keep pictures of the pages.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.bridge.browser import CHROMIUM, ROOT, opened, served

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
        assert tab.errors == []
    assert "Traceback" not in log.read_text()
