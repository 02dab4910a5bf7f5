"""The pages of the examples, as a person uses them: in a browser, with a click on Step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.browser import CHROMIUM, ROOT, opened, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]

PAGES = {
    "civil_violence": ["Agent ", "decide(", "latest activation"],
}


@pytest.mark.parametrize("example", PAGES)
def test_a_click_on_step_shows_the_step_and_what_agents_thought_and_did(
    example: str, tmp_path: Path
) -> None:
    page = ROOT / "examples" / example / "page.py"
    with (
        served(page, tmp_path / "server.log") as address,
        opened(address, tmp_path / "profile") as tab,
    ):
        before = tab.wait_for("Step", "Nothing is recorded yet.")
        assert "latest activation" not in before
        tab.click("step")
        tab.wait_for(*PAGES[example])
        assert tab.run("/(Step: 1|Time: 1(\\.0)?)\\b/.test(document.body.innerText)")
        tab.screenshot(tmp_path / "page.png")
        assert tab.errors == []
    assert "Traceback" not in (tmp_path / "server.log").read_text()
