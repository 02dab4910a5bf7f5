"""Cassettes: what was recorded is played again, to the byte, and nothing else is."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from examples.contract_net.agents import town
from llm_net import Deterministic, GenAgent, GenNetwork, Message, Runtime
from llm_net.errors import CassetteMiss, CircuitOpen, ModelCallError, UsageError
from llm_net.llm.budget import Budget
from llm_net.llm.cassette import Cassette, Match, Mode
from llm_net.llm.ledger import Row
from llm_net.llm.local import LocalModel
from llm_net.llm.model import Chunk, Completion, Request, ToolCall, Usage
from llm_net.llm.module_llm import ModuleLLM
from llm_net.llm.recording import Recorded
from llm_net.llm.scripted import FunctionModel
from llm_net.protocols import ContractNet
from tests.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from llm_net.llm.model import Model


class Bid(BaseModel):
    price: float


class Numbered:
    """A model that never says the same twice."""

    name = "numbered"

    def __init__(self) -> None:
        self.asked = 0

    def complete(self, request: Request) -> Completion:
        self.asked += 1
        return Completion(text=f"{request.prompt} {self.asked}", model=self.name)

    async def acomplete(self, request: Request) -> Completion:
        return self.complete(request)


class Streamed:
    """A model that streams what it is told to, and may fail after that."""

    name = "streamed"

    def __init__(self, *texts: str, error: ModelCallError | None = None) -> None:
        self._texts = texts
        self._error = error

    def complete(self, request: Request) -> Completion:
        raise NotImplementedError

    async def acomplete(self, request: Request) -> Completion:
        raise NotImplementedError

    def stream(self, request: Request) -> Iterator[Chunk]:
        yield from map(Chunk, self._texts)
        if self._error is not None:
            raise self._error
        yield Chunk("", Completion(text="".join(self._texts), model=self.name))

    async def astream(self, request: Request) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk


def asking(text: str = "Greet me.", place: str = "firm/boss:step", **more: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), place=place, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def recorded(path: Path, model: Model, *requests: Request, mode: Mode = "all") -> list[str]:
    """Ask a model on a new cassette; the texts of its answers."""
    with Cassette(path, mode=mode) as cassette:
        return [Recorded(model, cassette).complete(request).text for request in requests]


def replay(path: Path, match: Match = "by_hash", name: str = "numbered") -> Recorded:
    return Recorded(None, Cassette(path, mode="none", match=match), name=name)


def texts(model: Model, *requests: Request) -> list[str]:
    return [model.complete(request).text for request in requests]


# What is recorded comes back.

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(min_value=0, max_value=10**9)
costs = st.none() | st.floats(min_value=0, max_value=1e6)
completions = st.builds(
    Completion,
    text=words,
    reasoning=words,
    tool_calls=st.lists(st.builds(ToolCall, name=words, arguments=words, id=words)).map(tuple),
    usage=st.builds(Usage, prompt_tokens=numbers, completion_tokens=numbers, cached_tokens=numbers),
    cost=costs,
    finish_reason=words,
    model=words,
)


@given(answers=st.lists(completions, max_size=4), prompt=words, place=words)
def test_every_answer_comes_back_as_it_was(
    answers: list[Completion], prompt: str, place: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.jsonl"
        script = iter(answers)
        with Cassette(file, mode="new_episodes") as cassette:
            model = Recorded(FunctionModel(lambda _: next(script)), cassette, name="m")
            heard = [model.complete(asking(prompt, place)) for _ in answers]
        again = Recorded(None, Cassette(file, mode="new_episodes"), name="m")
        assert [again.complete(asking(prompt, place)) for _ in answers] == heard
        with Cassette(file, mode="new_episodes") as third:
            model = Recorded(None, third, name="m")
            assert [asyncio.run(model.acomplete(asking(prompt, place))) for _ in answers] == heard
    for one, other in zip(heard, answers, strict=True):
        assert (one.text, one.tool_calls, one.usage) == (other.text, other.tool_calls, other.usage)
        assert (one.cost, one.reasoning, one.model) == (other.cost, other.reasoning, other.model)


def test_a_handle_does_not_know_whether_it_is_on_a_cassette(path: Path) -> None:
    answers = iter(["no JSON", '{"price": 40}'])
    with Cassette(path) as cassette:
        llm = ModuleLLM(Recorded(FunctionModel(lambda _: next(answers)), cassette, name="m"))
        live = llm.generate("Bid.", response_format=Bid)
    llm = ModuleLLM(replay(path, name="m"))
    played = llm.generate("Bid.", response_format=Bid)
    assert played.parsed == live.parsed == Bid(price=40)
    assert (played.usage, played.cost) == (live.usage, live.cost)


@pytest.mark.parametrize("kind", [ModelCallError, CircuitOpen])
def test_an_error_comes_back_as_it_was(kind: type[ModelCallError], path: Path) -> None:
    error = kind("'m' refused: the limit is reached. Wait.")
    error.status, error.passing, error.retry_after = 429, True, 2.5

    def fail(request: Request) -> str:
        raise error

    with Cassette(path) as cassette, pytest.raises(kind) as live:
        Recorded(FunctionModel(fail), cassette, name="m").complete(asking())
    with pytest.raises(kind) as played:
        replay(path, name="m").complete(asking())
    for caught in (live.value, played.value):
        assert type(caught) is kind
        assert str(caught) == str(error)
        assert (caught.status, caught.passing, caught.retry_after) == (429, True, 2.5)


def test_an_error_of_the_program_is_not_an_answer(path: Path) -> None:
    def wrong(request: Request) -> str:
        raise UsageError("no such parameter")

    with Cassette(path) as cassette, pytest.raises(UsageError, match="no such parameter"):
        Recorded(FunctionModel(wrong), cassette).complete(asking())
    assert not path.exists()


def test_latency_is_recorded_on_the_caller_s_clock_and_not_waited_for(path: Path) -> None:
    with Cassette(path) as cassette:
        live = Recorded(Numbered(), cassette).complete(asking())
    assert live.latency > 0
    assert replay(path).complete(asking()).latency == live.latency


def test_the_ledger_of_a_replay_is_that_of_the_recording(path: Path) -> None:
    tables: list[list[Row]] = []
    for _ in range(2):
        budget = Budget()
        with Cassette(path) as cassette:
            llm = ModuleLLM(lambda request: "yes", cassette=cassette, budget=budget)
            llm.generate("first", place="a:plan")
            llm.generate("second", place="b:plan")
        tables.append(budget.ledger.table())
    assert tables[0] == tables[1]


# Streams.


def pieces(model: Recorded, count: int | None = None) -> list[str]:
    """The texts of the first pieces of a stream, read in blocking code."""
    with closing(model.stream(asking())) as stream:
        return [chunk.text for _, chunk in zip(range(count or 99), stream, strict=False)]


def apieces(model: Recorded, count: int | None = None) -> list[str]:
    """Likewise, in an event loop."""

    async def read() -> list[str]:
        found: list[str] = []
        async with aclosing(model.astream(asking())) as stream:
            async for chunk in stream:
                found.append(chunk.text)
                if len(found) == count:
                    break
        return found

    return asyncio.run(read())


READERS = [pieces, apieces]


@pytest.mark.parametrize("read", READERS)
def test_a_stream_comes_back_in_its_pieces(read: Any, path: Path) -> None:
    with Cassette(path) as cassette:
        live = read(Recorded(Streamed("Good ", "mor", "ning."), cassette))
    assert live == ["Good ", "mor", "ning.", ""]
    assert read(replay(path, name="streamed")) == live
    last = list(replay(path, name="streamed").stream(asking()))[-1]
    assert last.completion is not None
    assert last.completion.text == "Good morning."
    assert replay(path, name="streamed").complete(asking()).text == "Good morning."


@pytest.mark.parametrize("read", READERS)
def test_a_stream_that_failed_fails_again_where_it_did(read: Any, path: Path) -> None:
    model = Streamed("Good ", "mor", error=ModelCallError("the line is dead"))
    with Cassette(path) as cassette, pytest.raises(ModelCallError, match="the line is dead"):
        read(Recorded(model, cassette))
    assert read(replay(path, name="streamed"), 2) == ["Good ", "mor"]
    with pytest.raises(ModelCallError, match="the line is dead"):
        read(replay(path, name="streamed"), 3)


@pytest.mark.parametrize("read", READERS)
def test_a_stream_that_was_left_early_can_be_left_early_again(read: Any, path: Path) -> None:
    with Cassette(path) as cassette:
        assert read(Recorded(Streamed("Good ", "mor", "ning."), cassette), 2) == ["Good ", "mor"]
    assert read(replay(path, name="streamed"), 2) == ["Good ", "mor"]
    with pytest.raises(CassetteMiss, match="read no further"):
        read(replay(path, name="streamed"))


@pytest.mark.parametrize("read", READERS)
def test_a_model_that_cannot_stream_answers_in_one_piece(read: Any, path: Path) -> None:
    with Cassette(path) as cassette:
        assert read(Recorded(Numbered(), cassette)) == ["Greet me. 1"]
    assert read(replay(path)) == ["Greet me. 1"]


# Which recording answers.

TOOL = {"type": "function", "function": {"name": "move", "parameters": {"type": "object"}}}
PLAIN: dict[str, Any] = {"params": {"temperature": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Greet him."},
        {"tools": (TOOL,)},
        {"tool_choice": "required"},
        {"response_format": Bid},
        {"response_format": {"type": "object"}},
        {"params": {"temperature": 0}},
        {"params": {}},
        {"params": {"temperature": None}},
        {"params": {"temperature": 1, "seed": 1}},
        {"params": {"temperature": 1, "stop": ["."]}},
    ],
    ids=repr,
)
def test_whatever_affects_the_answer_is_part_of_the_question(
    change: dict[str, Any], path: Path
) -> None:
    recorded(path, Numbered(), asking(**PLAIN))
    with pytest.raises(CassetteMiss):
        replay(path).complete(asking(**{**PLAIN, **change}))


@pytest.mark.parametrize("where", [{"name": "other"}, {"api_base": "http://127.0.0.1:1/v1"}])
def test_whom_and_where_is_part_of_the_question(where: dict[str, str], path: Path) -> None:
    recorded(path, Numbered(), asking())
    with pytest.raises(CassetteMiss):
        Recorded(None, Cassette(path), **{"name": "numbered", **where}).complete(asking())


def test_what_does_not_affect_the_answer_is_not(path: Path) -> None:
    recorded(path, Numbered(), asking(**PLAIN, response_format=Bid))
    same = asking(params={"timeout": 3.5, "temperature": 1.0}, response_format=Bid)
    assert texts(replay(path), same) == ["Greet me. 1"]


def test_the_k_th_use_gets_the_k_th_recording_and_no_more(path: Path) -> None:
    live = recorded(path, Numbered(), asking(), asking("Bye."), asking())
    model = replay(path)
    assert texts(model, asking(), asking(), asking("Bye.")) == [live[0], live[2], live[1]]
    with pytest.raises(CassetteMiss, match=r"answers it \(2\) has been played"):
        model.complete(asking())


def test_by_hash_prefers_recordings_of_the_same_place_in_any_order_of_asking(path: Path) -> None:
    live = recorded(path, Numbered(), asking(place="a"), asking(place="b"), asking(place="c"))
    model = replay(path)
    assert texts(model, asking(place="c"), asking(place="b")) == [live[2], live[1]]
    assert texts(model, asking(place="new name")) == [live[0]]


def test_strict_keeps_to_the_place(path: Path) -> None:
    live = recorded(path, Numbered(), asking(place="a"), asking(place="b"))
    model = replay(path, "strict")
    assert texts(model, asking(place="b")) == [live[1]]
    with pytest.raises(CassetteMiss, match="was recorded at 'a', and match='strict'"):
        model.complete(asking(place="c"))


def test_by_place_plays_in_the_order_of_asking_whatever_the_words(path: Path) -> None:
    live = recorded(path, Numbered(), asking("Z", "a"), asking("M", "b"), asking("A", "a"))
    model = replay(path, "by_place")
    assert texts(model, asking("reworded", "a"), asking("too", "a")) == [live[0], live[2]]
    with pytest.raises(CassetteMiss, match=r"answers it \(2\) has been played"):
        model.complete(asking("once more", "a"))


# Modes.


def test_once_records_once_and_then_only_plays(path: Path) -> None:
    model = Numbered()
    live = recorded(path, model, asking(), mode="once")
    assert recorded(path, model, asking(), mode="once") == live
    assert model.asked == 1
    with pytest.raises(CassetteMiss, match="mode='once'"):
        recorded(path, model, asking("Bye."), mode="once")
    assert model.asked == 1


def test_new_episodes_plays_what_there_is_and_records_the_rest(path: Path) -> None:
    model = Numbered()
    live = recorded(path, model, asking(), mode="new_episodes")
    more = recorded(path, model, asking(), asking("Bye."), asking(), mode="new_episodes")
    assert more[0] == live[0]
    assert model.asked == 3
    assert texts(replay(path), asking(), asking(), asking("Bye.")) == [more[0], more[2], more[1]]


def test_all_asks_always_and_replaces_everything(path: Path) -> None:
    model = Numbered()
    recorded(path, model, asking(), asking("Bye."))
    recorded(path, model, asking())
    assert texts(replay(path), asking()) == ["Greet me. 3"]
    with pytest.raises(CassetteMiss):
        replay(path).complete(asking("Bye."))


def test_none_needs_a_recording(path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recording in .*answers\.jsonl"):
        Cassette(path, mode="none")


def test_an_unknown_mode_or_match_is_refused(path: Path) -> None:
    wrong: Any = "sometimes"
    with pytest.raises(UsageError, match="mode='sometimes'"):
        Cassette(path, mode=wrong)
    with pytest.raises(UsageError, match="match='sometimes'"):
        Cassette(path, match=wrong)


# What a miss says.


def test_a_miss_shows_the_nearest_recording_and_what_differs(path: Path) -> None:
    long = "You are ann. A customer asks for a bench. Offer a price. Be brief. " * 5
    recorded(path, Numbered(), asking("Something else."), asking(f"{long}Answer in JSON."))
    with pytest.raises(CassetteMiss) as caught:
        replay(path).complete(asking(f"{long}Answer in YAML.", params={"seed": 3}))
    text = str(caught.value)
    assert "by 'firm/boss:step'" in text
    assert "-Answer in JSON." in text
    assert "+Answer in YAML." in text
    assert '+  "seed": 3' in text
    assert "Something else" not in text
    assert len(text) < 1500


def test_a_miss_is_compared_with_what_the_same_place_asked(path: Path) -> None:
    recorded(path, Numbered(), asking("Good evening.", "z"), asking("Good morning?", "b"))
    with pytest.raises(CassetteMiss, match=r"of 'z' differs(.|\n)*-.*Good evening\."):
        replay(path).complete(asking("Good morning!", "z"))


def test_a_miss_in_a_sea_of_differences_stays_short(path: Path) -> None:
    recorded(path, Numbered(), asking("\n".join(map(str, range(5000)))))
    with pytest.raises(CassetteMiss, match="lines more") as caught:
        replay(path).complete(asking("\n".join(map(str, range(7000, 12000)))))
    assert len(str(caught.value)) < 8000


def test_a_miss_without_a_model_says_that_there_is_none(path: Path) -> None:
    with pytest.raises(CassetteMiss, match="No model was given"):
        Recorded(None, Cassette(path), name="m").complete(asking())


def test_what_is_no_json_cannot_be_recorded(path: Path) -> None:
    with pytest.raises(UsageError, match="a bytes in its params"):
        recorded(path, Numbered(), asking(params={"extra_body": {"image": b"\0"}}))
    with pytest.raises(UsageError, match="a float in its params"):
        recorded(path, Numbered(), asking(params={"top_p": float("nan")}))


# Whole programs.

NAMES = ("ann", "bob", "cem", "dora")
QUESTION = "What do you say?"


class Guest(GenAgent):
    """Says what its model says, until it has said enough."""

    llm: ModuleLLM
    said: int = 0

    async def astep(self, message: Message) -> None:
        answer = await self.llm.agenerate(QUESTION, place=self.path)
        self.said += 1
        if self.said < 4:
            self.emit("step", answer.text)


class ThreadGuest(GenAgent):
    """Likewise; it blocks a thread while its model thinks."""

    llm: ModuleLLM
    said: int = 0

    def step(self, message: Message) -> None:
        answer = self.llm.generate(QUESTION, place=self.path)
        self.said += 1
        if self.said < 4:
            self.emit("step", answer.text)


def party(kind: type[Guest | ThreadGuest], llm: ModuleLLM) -> GenNetwork:
    edges = [(one, "step", other) for one in NAMES for other in NAMES if one != other]
    agents = [kind(name=name, llm=llm) for name in NAMES]
    return GenNetwork(name="party", agents=agents, edges=edges, entry=list(NAMES))


@pytest.mark.parametrize("kind", [Guest, ThreadGuest])
def test_a_deterministic_run_on_a_cassette_has_the_recorded_run_s_trace(
    kind: type[Guest | ThreadGuest], path: Path
) -> None:
    """Though the prompts are equal, and the answers came from threads."""
    numbers = itertools.count()

    def answer(request: Request) -> str:
        return f"{request.place} {next(numbers)}"

    with Cassette(path) as cassette:
        llm = ModuleLLM(Recorded(FunctionModel(answer), cassette, name="m"))
        live = party(kind, llm).run(Message("Hello!"), runtime=Deterministic(7))
    again = party(kind, ModuleLLM(replay(path, name="m")))
    assert again.run(Message("Hello!"), runtime=Deterministic(7)).trace == live.trace
    assert not live.failures


def test_a_deterministic_run_records_the_same_bytes_again(tmp_path: Path) -> None:
    files: list[bytes] = []
    for number in range(2):
        with Cassette(tmp_path / str(number)) as cassette:
            model = FunctionModel(lambda request: f"I am {request.place}.")
            llm = ModuleLLM(Recorded(model, cassette, name="m"))
            party(Guest, llm).run(Message("Hello!"), runtime=Deterministic(7))
        files.append(cassette.path.read_bytes())
    assert files[0] == files[1]
    assert files[0].count(b"\n") > 10


def negotiated(llm: ModuleLLM, runtime: Runtime) -> list[str]:
    """All that is said in a contract net; ids and times as well, where a seed makes them equal."""
    net = ContractNet(town(3, llm, nested=True), initiator="manager", deadline=120)
    outcome = net.run("Build a bench.", runtime=runtime)
    assert outcome.status == "done"
    said: list[str] = []
    for message, receiver in outcome.conversation:
        fields = message.model_dump(mode="json")
        if not isinstance(runtime, Deterministic):
            fields = {k: v for k, v in fields.items() if k not in {"id", "created_at", "reply_to"}}
        said.append(json.dumps([fields, receiver and receiver.path], sort_keys=True))
    return said


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **_: object) -> None:
        raise OSError(f"no network here: {given}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def assert_negotiated_again(model: Model, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    makers: list[Callable[[], Runtime]] = [Runtime, lambda: Deterministic(3)]
    for number, make in enumerate(makers):
        file = path.with_name(str(number))
        with Cassette(file) as cassette:
            live = negotiated(ModuleLLM(Recorded(model, cassette, name="m"), temperature=0), make())
        with monkeypatch.context() as patch:
            no_network(patch)
            played = negotiated(ModuleLLM(replay(file, name="m"), temperature=0), make())
        if number == 0:  # who answers first is, without a seed, up to the clock
            live, played = sorted(live), sorted(played)
        assert played == live
        assert len(live) > 10


def test_a_contract_net_is_the_same_to_the_byte_without_its_model(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()

    def wording(request: Request) -> Any:
        if request.response_format is not None:
            return {"days": 1 + len(request.prompt) % 5, "offer": f"Offer {next(numbers)}."}
        return f"Bench {next(numbers)}."

    assert_negotiated_again(FunctionModel(wording), path, monkeypatch)


@pytest.mark.real_llm
def test_a_contract_net_of_the_embedded_model_is_the_same_to_the_byte_without_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_negotiated_again(LocalModel("local/smollm2-135m"), path, monkeypatch)


# The file.


def test_whatever_thread_is_faster_the_file_is_the_same(path: Path, tmp_path: Path) -> None:
    """Agents ask at once, and their answers come in one order and then in the other."""
    others = list("abcdefgh")
    files: list[bytes] = []
    for number, order in enumerate((others, others[::-1])):
        gates = {place: threading.Event() for place in others}

        def answer(request: Request, gates: dict[str, threading.Event] = gates) -> Completion:
            assert gates[request.place].wait(DEADLINE_S)
            return Completion(text=request.place)

        file = tmp_path / str(number)
        with Cassette(file) as cassette, ThreadPoolExecutor(len(others)) as pool:
            model = Recorded(FunctionModel(answer), cassette, name="m")
            asked = {place: pool.submit(model.complete, asking(place=place)) for place in others}
            for place in order:
                gates[place].set()
                asked[place].result(DEADLINE_S)
        files.append(_without_latency(file))
    assert files[0] == files[1]


def test_at_one_place_the_order_in_the_file_is_that_of_asking(path: Path) -> None:
    asked, answered = threading.Event(), threading.Event()

    def answer(request: Request) -> str:
        if request.prompt == "first":
            asked.set()
            assert answered.wait(DEADLINE_S)
        return request.prompt

    with Cassette(path) as cassette, ThreadPoolExecutor(1) as pool:
        model = Recorded(FunctionModel(answer), cassette, name="m")
        first = pool.submit(model.complete, asking("first"))
        assert asked.wait(DEADLINE_S)
        model.complete(asking("second"))
        answered.set()
        first.result(DEADLINE_S)
    again = replay(path, "by_place", "m")
    assert texts(again, asking("x"), asking("y")) == ["first", "second"]


def _without_latency(file: Path) -> bytes:
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    for line in lines:
        line.pop("latency", None)
        line.pop("sum", None)
    return json.dumps(lines).encode()


def test_threads_share_a_cassette_and_each_recording_is_played_once(path: Path) -> None:
    with Cassette(path) as cassette:
        model = Recorded(Numbered(), cassette)
        with ThreadPoolExecutor(8) as pool:
            live = sorted(pool.map(lambda _: model.complete(asking()).text, range(200)))
    again = replay(path)
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: again.complete(asking()).text, range(200))) == live


def test_a_file_cut_anywhere_plays_every_whole_line_and_records_on(path: Path) -> None:
    asked = [asking(text) for text in "abc"]
    live = recorded(path, Numbered(), *asked)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        lines = max(whole[:cut].count(b"\n") - 1, 0)
        model = Numbered()
        with Cassette(path, mode="new_episodes") as cassette:
            heard = texts(Recorded(model, cassette), *asked)
            # Also if this process is killed as well.
            assert texts(replay(path), *asked) == heard
        assert heard[:lines] == live[:lines]
        assert model.asked == 3 - lines
        assert texts(replay(path), *asked) == heard


KILLED = """
import os, signal, sys
from llm_net.llm.cassette import Cassette
from llm_net.llm.model import Request
from llm_net.llm.recording import Recorded
from llm_net.llm.scripted import FunctionModel
from llm_net.protocols import ContractNet
model = Recorded(FunctionModel(lambda request: request.prompt), Cassette(sys.argv[1]), name="m")
for text in "abc":
    model.complete(Request(messages=({"role": "user", "content": text},)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_recorded_is_played(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode < 0
    model = replay(path, name="m")
    assert texts(model, *[asking(text, "") for text in "abc"]) == ["a", "b", "c"]


def test_a_cassette_that_nobody_closed_is_in_order_at_the_end(path: Path) -> None:
    code = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "").replace(
        '"content": text},)',
        '"content": text},), place=f"{5 - len(open(sys.argv[1]).readlines())}"',
    )
    path.write_bytes(b"")
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], check=True)
    places = [json.loads(line).get("place") for line in path.read_bytes().splitlines()]
    assert places == [None, *sorted(place for place in places[1:] if place is not None)]
    assert len(places) == 4


@given(where=st.integers(0, 10**6), change=st.integers(1, 255))
def test_an_edited_line_is_found_and_named(where: int, change: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.jsonl"
        recorded(file, Numbered(), asking("a"), asking("b"))
        content = bytearray(file.read_bytes())
        second = content.index(b"\n") + 1
        at = second + where % (len(content) - second - 1)
        number = 1 + content[:at].count(b"\n")
        content[at] = (content[at] + change) % 256
        if content[at] in b"\r\n" or _same(file.read_bytes(), bytes(content)):
            return  # two lines now; or another way to write the same
        file.write_bytes(content)
        with pytest.raises(UsageError, match=f"Line {number} of the cassette .*cannot be played"):
            Cassette(file)


def _same(one: bytes, other: bytes) -> bool:
    try:
        lines = [[json.loads(line) for line in text.splitlines()] for text in (one, other)]
    except ValueError:
        return False
    return lines[0] == lines[1]


def test_a_newer_cassette_is_refused_with_both_versions(path: Path) -> None:
    recorded(path, Numbered(), asking())
    whole = path.read_bytes()
    for name in (b'"schema": 1', b'"key_version": 1'):
        path.write_bytes(whole.replace(name, name[:-1] + b"2"))
        with pytest.raises(UsageError, match=r"(schema|version) 2.*reads schema 1.*Upgrade"):
            Cassette(path)


@pytest.mark.parametrize("content", [b"hello", b"hello\n", b"{}\n", b"[1]\n", b"\xff\0\n"])
def test_another_file_is_refused_and_left_as_it_is(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is no cassette"):
        Cassette(path, mode="new_episodes")
    assert path.read_bytes() == content


def test_two_do_not_record_on_one_file_at_a_time(path: Path) -> None:
    with Cassette(path) as first, Cassette(path) as second, Cassette(path) as third:
        live = Recorded(Numbered(), first).complete(asking()).text
        with pytest.raises(UsageError, match="Somebody else records on"):
            Recorded(Numbered(), second).complete(asking())
        first.close()
        with pytest.raises(UsageError, match="since it was read"):
            Recorded(Numbered(), third).complete(asking())
    assert texts(replay(path), asking()) == [live]


def test_two_do_not_replace_one_file_at_a_time(path: Path) -> None:
    with Cassette(path, "all") as first, Cassette(path, "all") as second:
        live = Recorded(Numbered(), first).complete(asking()).text
        with pytest.raises(UsageError, match="Somebody else records on"):
            Recorded(Numbered(), second).complete(asking())
    assert texts(replay(path), asking()) == [live]


def test_a_file_that_was_replaced_while_it_was_opened_is_not_recorded_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may close its cassette between our opening of the file and our lock."""
    fcntl = pytest.importorskip("fcntl")
    lock = fcntl.flock

    def late(file: Any, how: int) -> None:
        other = path.with_name("other")
        other.write_bytes(b"")
        other.replace(path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with Cassette(path, "all") as cassette, pytest.raises(UsageError, match="Somebody else"):
        Recorded(Numbered(), cassette).complete(asking())


def test_a_closed_cassette_records_on(path: Path) -> None:
    with Cassette(path) as cassette:
        model = Recorded(Numbered(), cassette)
        first = model.complete(asking()).text
        cassette.close()
        second = model.complete(asking()).text
    assert texts(replay(path), asking(), asking()) == [first, second]


def test_an_unpickled_cassette_plays_its_file(path: Path) -> None:
    live = recorded(path, Numbered(), asking())
    cassette: Cassette = pickle.loads(pickle.dumps(Cassette(path, "none", "strict")))
    assert texts(Recorded(None, cassette, name="numbered"), asking()) == live
    assert repr(cassette) == f"Cassette({str(path)!r}, mode='none', match='strict')"


def test_playing_leaves_the_file_alone(path: Path) -> None:
    live = recorded(path, Numbered(), asking())
    before = path.stat()
    path.chmod(0o400)
    with Cassette(path) as cassette:
        assert texts(Recorded(None, cassette, name="numbered"), asking()) == live
    assert path.stat().st_mtime_ns == before.st_mtime_ns
