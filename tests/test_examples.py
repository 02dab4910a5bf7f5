"""The examples: what a person sees who runs them, with what they know and what they mistype."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from examples.contract_net.agents import Contractor, town
from examples.quickstart import chat, two_agents
from llm_net import ModuleLLM, Request
from llm_net.protocols import ContractNet

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ["network.svg", "conversation.svg", "conversation.mmd"]

# Put first on the path: whatever of the example wants the network, fails.
NO_NETWORK = """
import socket

def refuse(self, address, *rest):
    raise OSError(f"this test allows no network, and {address!r} was called")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *_, **__: refuse(None, "a name")
"""


def run_module(
    *arguments: str, first: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` as a person would, without a key for any provider."""
    kept = {k: v for k, v in os.environ.items() if not re.search(r"KEY|TOKEN|SECRET", k)}
    path = [str(place) for place in (first, ROOT) if place is not None]
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": os.pathsep.join(path), **(env or {})},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def assert_clear_failure(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    for text in says:
        assert text in done.stderr


def assert_pictures(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == sorted(PICTURES)
    for name in PICTURES[:2]:
        assert ET.parse(folder / name).getroot().tag.endswith("svg")
    mermaid = (folder / "conversation.mmd").read_text(encoding="utf-8")
    assert mermaid.splitlines()[0] == "sequenceDiagram"


def said(request: Request) -> list[tuple[str, str]]:
    return [(str(m["role"]), str(m["content"])) for m in request.messages]


# -- quickstart


def test_quickstart_prints_what_its_readme_says_without_network_or_key(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    done = run_module("examples.quickstart", first=tmp_path)
    assert done.returncode == 0, done.stderr
    readme = (ROOT / "examples/quickstart/README.md").read_text(encoding="utf-8")
    (promised,) = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    assert done.stdout == promised
    assert done.stderr == ""


def test_the_two_agents_say_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    two_agents.main()
    first = capsys.readouterr().out
    two_agents.main()
    assert capsys.readouterr().out == first


def chatting(function: Any) -> Any:
    """A function model, where the example takes a model's name."""
    return function


def test_a_chat_asks_with_the_whole_conversation_before_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    requests: list[Request] = []

    def model(request: Request) -> str:
        requests.append(request)
        return f" answer {len(requests)} "

    assert chat.main(chatting(model), ["Who wrote Faust?", "And when?", "Why?"]) == 0
    assert [text for _, text in said(requests[1])[-3:]] == [
        "Who wrote Faust?",
        "answer 1",
        "And when?",
    ]
    assert [role for role, _ in said(requests[1])] == ["system", "user", "assistant", "user"]
    assert [role for role, _ in said(requests[2])] == ["system", *["user", "assistant"] * 2, "user"]
    assert capsys.readouterr().out == (
        "> Who wrote Faust?\nanswer 1\n> And when?\nanswer 2\n> Why?\nanswer 3\n"
    )


def test_a_chat_reads_lines_until_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["hello\n", "  bye \n", "\n", "never read\n"])
    monkeypatch.setattr(sys, "stdin", type("Typing", (), {"readline": lambda _: next(typed)})())
    assert chat.main(chatting(lambda request: request.prompt.upper()), []) == 0
    out = capsys.readouterr().out
    assert "> hello\nHELLO\n> bye\nBYE\n" in out
    assert next(typed) == "never read\n"


def test_a_chat_at_the_end_of_its_input_ends() -> None:
    done = run_module("examples.quickstart", "--model", "local/smollm2-135m")
    assert done.returncode == 0, done.stderr


def test_a_chat_without_a_key_says_so() -> None:
    done = run_module("examples.quickstart", "--model", "openai/gpt-4o-mini", "Hello?")
    assert_clear_failure(done, "OPENAI_API_KEY", "openai/gpt-4o-mini")


def test_a_chat_with_a_model_that_does_not_exist_says_so() -> None:
    done = run_module("examples.quickstart", "--model", "local/nobody", "Hello?")
    assert_clear_failure(done, "local/nobody", "local/smollm2-135m")
    done = run_module("examples.quickstart", "--model", "nonsense", "Hello?")
    assert_clear_failure(done, "nonsense", "provider/model")


@pytest.mark.real_llm
def test_a_chat_with_the_embedded_model_answers() -> None:
    done = run_module("examples.quickstart", "--model", "local/smollm2-135m", "Say hello.")
    assert done.returncode == 0, done.stderr
    question, answer = done.stdout.split("\n", 1)
    assert question == "> Say hello."
    assert answer.strip()


# -- contract net, with a function in the model's place


def wording(request: Request) -> Any:
    """Words a bid, or a report."""
    if request.response_format is not None:
        return {"days": 1 + len(request.place) % 5, "offer": "Gladly."}
    return "I made\nthe bench."


def main_module() -> ModuleType:
    return importlib.import_module("examples.contract_net.__main__")


def call_main(monkeypatch: pytest.MonkeyPatch, model: Any, *arguments: str) -> int:
    """The example's `main`, on a function model."""
    module = main_module()

    def make(name: str, **options: Any) -> ModuleLLM:
        return ModuleLLM(model, **options)

    monkeypatch.setattr(module, "ModuleLLM", make)
    status: int = module.main(list(arguments))
    return status


def test_twenty_contractors_bid_and_the_cheapest_gets_the_task() -> None:
    network = town(20, ModuleLLM(wording))
    outcome = ContractNet(network, initiator="manager").run("Build a bench.")
    assert outcome.status == "done"
    assert len(outcome.proposals) == 20
    assert outcome.winner is not None
    cheapest = min(bid.price for bid in outcome.proposals.values())
    assert outcome.proposals[outcome.winner].price == cheapest
    contractors = [agent for agent in network.directory.values() if isinstance(agent, Contractor)]
    assert {agent.name: (agent.won, agent.lost) for agent in contractors} == {
        agent.name: (1, 0) if agent.name == outcome.winner else (0, 1) for agent in contractors
    }


def test_twenty_contractors_on_the_command_line_are_shown_drawn_and_succeed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "folder"
    status = call_main(monkeypatch, wording, "--contractors", "20", "--out", str(folder))
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "status: done" in out
    assert "result: I made the bench." in out
    assert sum(line.startswith("town/manager -> ") and "  cfp" in line for line in out.splitlines())
    assert out.count("  awarded") == 1
    assert out.count("  rejected") == 19
    assert "jan2" in out
    assert_pictures(folder)
    for name in PICTURES[:2]:
        assert str(folder / name) in out


def test_without_contractors_nobody_bids_and_the_exit_status_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status = call_main(monkeypatch, wording, "--contractors", "0", "--out", str(tmp_path))
    out, _ = capsys.readouterr()
    assert status == 1
    assert "status: no_bids" in out
    assert_pictures(tmp_path)


def test_a_nested_guild_bids_as_one_contractor_and_can_win(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("--contractors", "0", "--nested", "--out", str(tmp_path))
    status = call_main(monkeypatch, wording, *arguments)
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "award:  guild" in out
    assert "result: I made the bench. I made the bench." in out
    assert_pictures(tmp_path)
    for name in ("planner", "digger", "joiner"):
        assert name in (tmp_path / "network.svg").read_text(encoding="utf-8")


def test_a_model_that_cannot_word_bids_is_refusals_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("--contractors", "2", "--out", str(tmp_path))
    status = call_main(monkeypatch, lambda request: "la la la", *arguments)
    out, err = capsys.readouterr()
    assert status == 1
    assert "I could not word a bid" in out
    assert "status: no_bids" in out
    assert "Traceback" not in out + err


def test_a_winner_without_words_gives_way_to_the_next_best(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    reports: list[str] = []

    def speechless_at_first(request: Request) -> Any:
        if request.response_format is None:
            reports.append(request.place)
            return " " if len(reports) == 1 else "Done."
        return wording(request)

    arguments = ("--contractors", "3", "--out", str(tmp_path))
    status = call_main(monkeypatch, speechless_at_first, *arguments)
    out, _ = capsys.readouterr()
    assert status == 0
    assert "result: Done." in out
    assert out.count("  failed") == 1
    assert out.count("  awarded") == 1
    assert len(reports) == 2


def test_a_task_of_markup_and_newlines_is_drawn_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = 'Paint <b>"&\x00; end\n```\nloop x'
    arguments = ("--contractors", "1", "--task", task, "--out", str(tmp_path))
    assert call_main(monkeypatch, wording, *arguments) == 0
    assert_pictures(tmp_path)


# -- contract net, mistyped


@pytest.mark.parametrize("number", ["-1", "many", "1.5"])
def test_a_number_of_contractors_that_is_none_is_explained(number: str) -> None:
    done = run_module("examples.contract_net", f"--contractors={number}")
    assert_clear_failure(done, number, "--contractors")


@pytest.mark.parametrize("deadline", ["0", "-3", "nan", "soon"])
def test_a_deadline_that_is_no_time_is_explained(deadline: str, tmp_path: Path) -> None:
    arguments = ["--contractors=1", f"--deadline={deadline}", "--out", str(tmp_path)]
    done = run_module("examples.contract_net", *arguments)
    assert_clear_failure(done, deadline, "deadline")


def test_an_out_that_cannot_be_written_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a_file"
    file.write_text("", encoding="utf-8")
    for place in (file, file / "below"):
        status = call_main(monkeypatch, wording, "--contractors=1", "--out", str(place))
        out, err = capsys.readouterr()
        assert status == 1
        assert "status: done" in out  # the negotiation was held, and is shown
        assert str(place) in err
        assert "--out" in err


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("local/nobody", ["local/nobody", "local/smollm2-135m"]),
        ("local//no/such/model.gguf", ["/no/such/model.gguf", "Check the path"]),
        ("nonsense", ["nonsense", "provider/model"]),
        ("nobody/nothing", ["nobody/nothing"]),
        ("openai/gpt-4o-mini", ["OPENAI_API_KEY", "openai/gpt-4o-mini"]),
    ],
)
def test_a_model_that_cannot_be_asked_is_explained(
    model: str, says: list[str], tmp_path: Path
) -> None:
    arguments = ["--contractors=2", "--model", model, "--out", str(tmp_path)]
    assert_clear_failure(run_module("examples.contract_net", *arguments), *says)


# -- minds, on their recorded answers


@pytest.mark.parametrize("example", ["react", "debate", "planner"])
def test_minds_play_their_recorded_answers_byte_for_byte_without_a_network(
    example: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    runs = [
        run_module(
            "examples.minds", example, "--recorded", first=tmp_path, env={"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    ]
    for done in runs:
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    said, again = (done.stdout.partition("\nagent ")[0] for done in runs)
    assert said == again
    assert said.startswith("you [step]")
    assert "[response]" in said


def test_minds_without_their_recording_say_what_is_missing(tmp_path: Path) -> None:
    done = run_module("examples.minds", "react", "--replay", str(tmp_path / "none.jsonl"))
    assert_clear_failure(done, "none.jsonl")


# -- contract net, with a real model


@pytest.mark.real_llm
def test_contractors_on_the_embedded_model_end_with_an_award_and_a_result(tmp_path: Path) -> None:
    done = run_module("examples.contract_net", "--contractors", "3", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "status: done" in done.stdout
    assert re.search(r"^award:  (ann|bob|cem)$", done.stdout, re.MULTILINE)
    assert re.search(r"^result: \S", done.stdout, re.MULTILINE)
    assert_pictures(tmp_path)


@pytest.mark.real_llm
def test_a_guild_on_the_embedded_model_bids_beside_contractors(tmp_path: Path) -> None:
    arguments = ["--contractors", "2", "--nested", "--out", str(tmp_path)]
    done = run_module("examples.contract_net", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^guild +\d", done.stdout, re.MULTILINE)
    assert_pictures(tmp_path)
