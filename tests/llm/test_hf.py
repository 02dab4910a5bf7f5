"""Models of the transformers library, the real one: batches that are batches, each row its own.

The names need no library and are always tested; the rest runs where the extra `hf` is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_net.errors import ModelCallError, ModelSetupError, UsageError
from llm_net.llm import hf_engine, weights
from llm_net.llm.batch_queue import BatchModel
from llm_net.llm.batching import Batched, BatchProcessor
from llm_net.llm.hf import HFModel
from llm_net.llm.model import Completion, Request
from tests.waiting import DEADLINE_S

NAME = "hf/smollm2-135m"
HAS_LIBRARY = importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")
real = [
    pytest.mark.real_llm,
    pytest.mark.skipif(not HAS_LIBRARY, reason="the extra 'hf' is not installed"),
    # The libraries' own warnings, while they are imported and the weights are read.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def on_the_real_model(test: Callable[..., None]) -> Callable[..., None]:
    for mark in real:
        test = mark(test)
    return test


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may fetch anything."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def model() -> HFModel:
    return HFModel(NAME)


def ask(text: str, **params: Any) -> Request:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": text})
    return Request(messages=messages, params={"max_tokens": 12, **params})


def completed(answer: Completion | Exception) -> Completion:
    assert isinstance(answer, Completion), answer
    return answer


# Names, and what is missing.


@pytest.mark.parametrize("name", ["hf/", "hf/model.gguf", "hf/org/model.gguf"])
def test_a_name_that_can_never_work_is_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError, match="names no model"):
        HFModel(name)


def test_a_missing_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    model = HFModel("hf/some/other-model")
    for ask_it in (
        lambda: model.complete(ask("x")),
        lambda: asyncio.run(model.acomplete(ask("x"))),
        lambda: model.complete_many([ask("x")]),
    ):
        with pytest.raises(ModelSetupError, match=r"pip install 'llm-net\[hf\]'"):
            ask_it()


def test_neither_a_handle_nor_the_package_imports_the_library() -> None:
    script = (
        "import sys, llm_net, llm_net.llm.hf; llm_net.llm.hf.HFModel('hf/org/model');"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@on_the_real_model
@pytest.mark.parametrize("name", ["hf//no/such/model.gguf", "hf/no-such-org/no-such-model"])
def test_what_cannot_be_loaded_is_named(name: str) -> None:
    with pytest.raises(ModelSetupError, match=r"could not load .*no.such"):
        HFModel(name).complete(ask("x"))


# Batches.

PROMPTS = [f"Say hello to {name}{', please' * (n % 3)}." for n, name in enumerate("abcdefghijkl")]


@on_the_real_model
def test_a_batch_says_greedily_what_each_would_say_alone(model: HFModel) -> None:
    assert isinstance(model, BatchModel)
    requests = [ask(prompt) for prompt in PROMPTS]
    together = [completed(answer) for answer in model.complete_many(requests)]
    alone = [model.complete(request) for request in requests]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.usage for answer in together] == [answer.usage for answer in alone]
    assert len({answer.usage.prompt_tokens for answer in together}) > 1, "there was some padding"
    assert all(answer.cost == 0 and answer.model == NAME for answer in together)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each pass through the weights had."""
    engine = hf_engine.load(NAME, weights.find, None)
    rows: list[int] = []
    forward = engine.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine.model, "forward", counted)
    return rows


@on_the_real_model
def test_a_batch_is_one_pass_a_token_for_all(model: HFModel, passes: list[int]) -> None:
    model.complete_many([ask(prompt, max_tokens=3) for prompt in PROMPTS])
    assert passes == [len(PROMPTS)] * 3


@on_the_real_model
def test_a_batch_ends_with_its_last_row(model: HFModel, passes: list[int]) -> None:
    first = model.complete(ask("Tell a tale.", max_tokens=1)).text
    passes.clear()
    stopped = ask("Tell a tale.", max_tokens=500, stop=first)
    for answer in map(completed, model.complete_many([stopped, stopped])):
        assert (answer.text, answer.finish_reason) == ("", "stop")
    assert passes == [2]


@on_the_real_model
def test_usage_is_exact(model: HFModel) -> None:
    tokenizer = hf_engine.load(NAME, weights.find, None).tokenizer
    for request, answer in zip(
        requests := [ask(prompt) for prompt in PROMPTS[:4]],
        model.complete_many(requests),
        strict=True,
    ):
        completion = completed(answer)
        read = tokenizer.apply_chat_template(
            list(request.messages), add_generation_prompt=True, return_dict=True
        )
        assert completion.usage.prompt_tokens == len(read["input_ids"])
        written = tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        assert completion.usage.completion_tokens == len(written)


@on_the_real_model
@settings(max_examples=10)
@given(limits=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_every_request_has_its_own_length(limits: list[int]) -> None:
    answers = HFModel(NAME).complete_many([ask("Tell a tale.", max_tokens=n) for n in limits])
    for limit, answer in zip(limits, map(completed, answers), strict=True):
        assert answer.usage.completion_tokens == limit
        assert answer.finish_reason == "length"


@on_the_real_model
def test_an_answer_that_ends_by_itself_says_so(model: HFModel) -> None:
    said, cut = model.complete_many([ask("Say hello.", max_tokens=60), ask("Hi.", max_tokens=1)])
    assert completed(said).finish_reason == "stop"
    assert completed(said).usage.completion_tokens < 60
    assert completed(cut).finish_reason == "length"


@on_the_real_model
def test_each_request_stops_at_its_own_words(model: HFModel) -> None:
    whole = model.complete(ask("Tell a tale.", max_tokens=12)).text
    middle = whole[len(whole) // 2 :][:3]
    requests = [
        ask("Tell a tale.", stop=middle),
        ask("Tell a tale.", stop=["never said", middle[:1]]),
        ask("Tell a tale."),
    ]
    first, second, third = map(completed, model.complete_many(requests))
    assert (first.text, first.finish_reason) == (whole[: whole.find(middle)], "stop")
    assert (second.text, second.finish_reason) == (whole[: whole.find(middle[:1])], "stop")
    assert first.usage.completion_tokens < 12
    assert (third.text, third.finish_reason) == (whole, "length")


@on_the_real_model
def test_one_that_fails_fails_alone(model: HFModel) -> None:
    answers = model.complete_many(
        [
            ask("Hi."),
            ask("Hi.", flavour="sweet"),
            ask("word " * 9000),
            ask("Hi.", max_tokens=900, timeout=0.001),
            ask("Hi."),
        ]
    )
    for answer, error, text in zip(
        answers[1:4],
        (UsageError, ModelCallError, ModelCallError),
        ("knows no parameter flavour", "there is room for 8192", "after 0.001 s"),
        strict=True,
    ):
        assert isinstance(answer, error)
        assert text in str(answer)
    assert (
        completed(answers[0]).text == completed(answers[4]).text == model.complete(ask("Hi.")).text
    )


@on_the_real_model
def test_a_timeout_ends_a_single_call_too(model: HFModel) -> None:
    request = ask("Tell a long tale.", max_tokens=4000, timeout=0.2)
    with pytest.raises(ModelCallError, match=r"0\.2 s"):
        model.complete(request)
    with pytest.raises(ModelCallError, match=r"0\.2 s"):
        asyncio.run(model.acomplete(request))
    # The engine is free again, long before 4000 tokens are written.
    assert model.complete(ask("Hi.", max_tokens=1)).usage.completion_tokens == 1


@on_the_real_model
def test_nothing_more_is_written_for_a_caller_that_was_cancelled(model: HFModel) -> None:
    lock = hf_engine.load(NAME, weights.find, None).lock

    async def main() -> None:
        asking = asyncio.ensure_future(model.acomplete(ask("Tell a tale.", max_tokens=8000)))
        while not lock.locked():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())
    assert lock.acquire(timeout=DEADLINE_S), "8000 tokens take minutes"
    lock.release()


# Luck.


@on_the_real_model
def test_a_seed_gives_the_same_answer_alone_and_in_any_batch(model: HFModel) -> None:
    lucky = ask("Tell a tale.", temperature=1.0, seed=7, top_p=0.95, top_k=50)
    others = [ask("Tell a tale.", temperature=1.5, seed=n) for n in range(3)]
    alone = model.complete(lucky).text
    first = [completed(answer).text for answer in model.complete_many([lucky, *others])]
    last = [completed(answer).text for answer in model.complete_many([*others, lucky])]
    assert first[0] == last[3] == alone
    assert first[1:] == last[:3]
    assert len(set(first)) > 1


@on_the_real_model
def test_without_a_seed_luck_differs_and_the_program_s_own_is_left_alone(model: HFModel) -> None:
    torch = importlib.import_module("torch")
    before = torch.random.get_rng_state()
    requests = [ask("Tell a tale.", temperature=1.5)] * 6
    texts = {completed(answer).text for answer in model.complete_many(requests)}
    assert len(texts) > 1
    assert torch.equal(before, torch.random.get_rng_state())


@on_the_real_model
@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-6}])
def test_luck_within_the_likeliest_token_is_greed(model: HFModel, narrow: dict[str, float]) -> None:
    lucky = ask("Tell a tale.", **{"temperature": 2.0, "seed": 3, **narrow})
    assert model.complete(lucky).text == model.complete(ask("Tell a tale.")).text


@on_the_real_model
@pytest.mark.parametrize(
    ("params", "shares"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.9}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
    ],
)
def test_tokens_are_drawn_in_their_shares(params: dict[str, float], shares: list[float]) -> None:
    torch = importlib.import_module("torch")
    engine = hf_engine.load(NAME, weights.find, None)
    row = engine.row(ask("x", temperature=1.0, seed=1, **params), NAME, 0)
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    drawn = [0, 0, 0, 0]
    for _ in range(4000):
        drawn[int(engine._drawn(scores, row).argmax())] += 1
    assert [count / 4000 for count in drawn] == pytest.approx(shares, abs=0.04)


# Shapes, tools, conversations.


class Bid(BaseModel):
    price: int


@on_the_real_model
def test_shapes_and_tools_are_told_in_words() -> None:
    engine = hf_engine.load(NAME, weights.find, None)
    tool = {
        "type": "function",
        "function": {"name": "move", "description": "Go.", "parameters": {}},
    }
    for messages in (ask("Bid.").messages, ask("Bid.").messages[1:]):
        request = Request(messages=messages, tools=(tool,), tool_choice="auto", response_format=Bid)
        told = engine.tokenizer.decode(engine.row(request, NAME, 0).prompt)
        assert "It must fit this JSON schema" in told
        assert '"price"' in told
        assert "move(" in told


@on_the_real_model
def test_a_tool_call_in_the_text_is_one(model: HFModel) -> None:
    tool = {
        "type": "function",
        "function": {"name": "move", "description": "Go.", "parameters": {}},
    }
    request = Request(messages=ask("Go.").messages, tools=(tool,), tool_choice="auto")
    engine = hf_engine.load(NAME, weights.find, None)
    row = engine.row(request, NAME, 0)
    row.written = engine.tokenizer('{"name": "move", "arguments": {"to": 1}}')["input_ids"]
    row.ended = "stop"
    answer = completed(engine.answer(row, NAME))
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("move", '{"to": 1}')]
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")


@on_the_real_model
def test_a_conversation_that_the_template_refuses_is_refused_alone(
    model: HFModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = hf_engine.load(NAME, weights.find, None).tokenizer
    refusing = "{% if messages|length > 2 %}{{ raise_exception('too many') }}{% endif %}Hi"
    monkeypatch.setattr(tokenizer, "chat_template", refusing)
    long = Request(messages=ask("a").messages * 2, params={"max_tokens": 2})
    good, bad = model.complete_many([ask("a", max_tokens=2), long])
    assert completed(good).text
    assert isinstance(bad, ModelCallError)
    assert "too many" in str(bad)
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ModelSetupError, match="has no chat template"):
        model.complete(ask("a"))


# One model for all, and its end.


@on_the_real_model
def test_handles_of_one_name_share_the_weights() -> None:
    with_threads: list[hf_engine.Engine] = []

    def load() -> None:
        with_threads.append(hf_engine.load(NAME, weights.find, "cpu"))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len(set(map(id, with_threads))) == 1


@on_the_real_model
def test_agents_that_ask_one_by_one_are_answered_together(model: HFModel) -> None:
    batched = Batched(BatchProcessor(model, max_batch=len(PROMPTS), flush_interval=DEADLINE_S))

    async def main() -> list[Completion]:
        asking = (batched.acomplete(ask(prompt, max_tokens=3)) for prompt in PROMPTS)
        return await asyncio.gather(*asking)

    texts = [completion.text for completion in asyncio.run(main())]
    assert texts == [model.complete(ask(prompt, max_tokens=3)).text for prompt in PROMPTS]
    assert batched.processor.statistics().batches == 1


AT_THE_END = """
import threading
from llm_net.llm import hf_engine
from llm_net.llm.hf import HFModel
from llm_net.llm.model import Request

messages = ({"role": "user", "content": "Tell a tale."},)
model = HFModel("hf/smollm2-135m")
model.complete(Request(messages=messages, params={"max_tokens": 1}))
endless = Request(messages=messages, params={"max_tokens": 8000})
threading.Thread(target=model.complete_many, args=([endless] * 4,), daemon=True).start()
while not hf_engine.load("hf/smollm2-135m", None, None).lock.locked():
    pass
print("bye")
"""


@on_the_real_model
def test_a_process_may_end_while_a_batch_is_written_and_nothing_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
