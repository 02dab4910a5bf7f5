"""Budgets: never overspent, whatever the order of things; what happens at the limit."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import random
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import BaseModel

from llm_net.context import AUTHOR
from llm_net.errors import BudgetExceeded, CircuitOpen, ModelCallError, UsageError
from llm_net.llm.account import Charge, Demand, Reservation
from llm_net.llm.account import reserve as reserve_in
from llm_net.llm.allowance import Allowance, Spending
from llm_net.llm.budget import Budget, reserve
from llm_net.llm.estimate import FREE, Price, prompt_bound
from llm_net.llm.limits import Limited, Limits
from llm_net.llm.metered import Metered, Priced
from llm_net.llm.model import Chunk, Completion, Request, Usage
from llm_net.llm.module_llm import ModuleLLM
from llm_net.llm.scripted import FunctionModel
from llm_net.llm.turnstile import TURNSTILE
from tests.llm.stepping import DONE, Clock, Script, ask, failure
from tests.waiting import within_deadline

DEAR = Price(3e-6, 15e-6)


def used(read: int, written: int, cost: float | None = 0.0) -> Completion:
    usage = Usage(prompt_tokens=read, completion_tokens=written)
    return Completion(text="x", usage=usage, cost=cost)


def metered(
    model: Any = None, *budgets: Budget, price: Price | None = FREE, **more: Any
) -> Metered:
    priced = Priced(model or Script(), "openai/m", lambda: price)
    budget = budgets[0] if budgets else None
    return Metered(priced, budget=budget, **more)


@dataclass
class Payer:
    """As much of a turn as a metered model looks at."""

    accounts: tuple[Budget, ...]
    place: str = "firm/ann:step"
    one_at_a_time: bool = False
    ended: list[Budget] = field(default_factory=list[Budget])

    def spent(self, budget: Budget) -> None:
        self.ended.append(budget)


@contextmanager
def turn(*accounts: Budget, place: str = "firm/ann:step") -> Generator[Payer]:
    payer = Payer(accounts, place)
    token = AUTHOR.set(cast("Any", payer))
    try:
        yield payer
    finally:
        AUTHOR.reset(token)


# Never overspent.

amounts = st.integers(0, 12)


class BudgetMachine(RuleBasedStateMachine):
    """An agent's, a network's and a run's budget, beside what calls hold and took of them."""

    @initialize(
        limits=st.lists(
            st.tuples(st.none() | st.integers(1, 8), st.none() | st.integers(1, 40)),
            min_size=3,
            max_size=3,
        )
    )
    def open(self, limits: list[tuple[int | None, int | None]]) -> None:
        self.budgets = [Budget(calls=calls, tokens=tokens) for calls, tokens in limits]
        self.open_calls: list[tuple[Reservation, list[int], int]] = []
        self.took = [[0, 0] for _ in self.budgets]

    @rule(payers=st.sets(st.integers(0, 2), min_size=1), tokens=amounts)
    def reserve(self, payers: set[int], tokens: int) -> None:
        chosen = sorted(payers)
        before = [budget.left for budget in self.budgets]
        fits = all(
            more <= (math.inf if left is None else left)
            for n in chosen
            for left, more in ((before[n].calls, 1), (before[n].tokens, tokens))
        )
        try:
            held = reserve([self.budgets[n] for n in chosen], calls=1, tokens=tokens)
        except BudgetExceeded:
            assert not fits
            assert before == [budget.left for budget in self.budgets]  # in none of them
        else:
            assert fits
            self.open_calls.append((held, chosen, tokens))

    @precondition(lambda self: self.open_calls)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.open_calls) - 1))
        held, payers, tokens = self.open_calls.pop(place)
        took = data.draw(st.integers(0, tokens))
        held.settle(Usage(prompt_tokens=took))
        for n in payers:
            self.took[n][0] += 1
            self.took[n][1] += took
        with pytest.raises(UsageError, match="counted twice"):
            held.release()

    @precondition(lambda self: self.open_calls)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.open_calls) - 1))
        self.open_calls.pop(place)[0].release()

    @invariant()
    def the_sums_are_right_and_within_the_limits(self) -> None:
        for n, budget in enumerate(getattr(self, "budgets", [])):
            mine = [tokens for _, payers, tokens in self.open_calls if n in payers]
            stands = budget.statistics()
            assert (stands.spent.calls, stands.spent.tokens) == tuple(self.took[n])
            assert (stands.reserved.calls, stands.reserved.tokens) == (len(mine), sum(mine))
            for kind in ("calls", "tokens"):
                limit = getattr(stands.limits, kind)
                gone = getattr(stands.spent, kind) + getattr(stands.reserved, kind)
                assert limit is None or gone <= limit
                assert limit is None or getattr(stands.left, kind) == limit - gone


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.data(), st.integers(200, 3000), st.none() | st.integers(1, 200), st.booleans())
@settings(deadline=None)
def test_no_interleaving_of_calls_overspends(
    data: st.DataObject,
    limit: int,
    max_tokens: int | None,
    priced: bool,  # noqa: FBT001 - hypothesis draws it
) -> None:
    """Calls step by step, in any order; each takes as much as a provider possibly could."""
    run = Budget(usd=limit * DEAR.completion) if priced else Budget(tokens=limit)
    firm = Budget(calls=7, tokens=limit)
    asked = ask("say it " * data.draw(st.integers(1, 9)), max_tokens=max_tokens)
    if max_tokens is None:
        asked = replace(asked, params={})
    with turn(firm, run):
        model = metered(price=DEAR)
        waiting = [model.flow(asked) for _ in range(data.draw(st.integers(1, 12)))]
        under_way: list[tuple[Any, Request]] = []
        total = 0
        while waiting or under_way:
            if waiting and (not under_way or data.draw(st.booleans())):
                flow = waiting.pop()
                try:
                    step = cast("Any", next(flow))
                except BudgetExceeded:
                    continue
                under_way.append((flow, step.request))
            else:
                flow, request = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
                read = data.draw(st.integers(1, prompt_bound(request)))
                written = data.draw(st.integers(1, request.params["max_tokens"]))
                total += read + written
                cost = DEAR.of(read, written)
                with pytest.raises(StopIteration):
                    flow.send(used(read, written, cost))
            for budget in (run, firm):
                gone, held = budget.spent, budget.statistics().reserved
                for kind, most in vars(budget.limits).items():
                    assert most is None or getattr(gone, kind) + getattr(held, kind) <= most + 1e-12
        assert run.spent.tokens == firm.spent.tokens == total
        assert run.statistics().reserved == Spending()


def test_nobody_reserves_between_another_s_look_and_his_taking() -> None:
    others: list[threading.Thread] = []
    taken: list[Reservation] = []

    def take() -> None:
        with suppress(BudgetExceeded):
            taken.append(reserve([budget], calls=1))

    def clock() -> float:  # is read in between
        if budget.account.begun is not None and not others:
            others.append(threading.Thread(target=take))
            others[0].start()
            others[0].join(0.2)  # it cannot end: it waits for us
        return 0.0

    budget = Budget(calls=1, seconds=60, clock=clock)
    budget.account.begun = 0.0
    take()
    within_deadline(others[0].join)
    assert len(taken) == 1


def test_threads_do_not_overspend() -> None:
    budget = Budget(calls=100, tokens=5_000)
    model = metered(Script([used(3, 5)]), budget)
    refused: list[BudgetExceeded] = []

    def work() -> None:
        for _ in range(50):
            try:
                model.complete(ask(max_tokens=5))
            except BudgetExceeded as error:
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        within_deadline(thread.join)
    assert (budget.spent.calls, budget.spent.tokens) == (100, 800)
    assert len(refused) == 300
    assert budget.statistics().refused == 300


def test_a_million_tiny_sums_add_up_exactly() -> None:
    budget = Budget(usd=1)
    for _ in range(1000):
        reserve([budget], usd=0.0001).settle(Usage(), 0.0001)
    assert (budget.spent.usd, budget.left.usd) == (0.1, 0.9)
    for _ in range(9):
        reserve([budget], usd=0.1).settle(Usage(), 0.1)
    assert budget.left.usd == 0
    with pytest.raises(BudgetExceeded):
        reserve([budget], usd=1e-9)


# What is reserved.


def test_a_request_without_max_tokens_gets_what_is_left_and_no_more_than_a_thousand() -> None:
    script = Script([used(10, 10)])
    budget = Budget(tokens=2_000)
    model = metered(script, budget)
    model.complete(ask("hi"))
    assert script.asked[0].params["max_tokens"] == 1024
    budget.account.limits = Allowance(tokens=120)
    model.complete(ask("hi"))
    assert script.asked[1].params["max_tokens"] == 100 - prompt_bound(ask("hi"))


def test_dollars_bound_the_answer_too() -> None:
    script = Script([used(10, 10, 0.0)])
    metered(script, Budget(usd=0.01), price=Price(0, 1e-4)).complete(ask("hi"))
    assert script.asked[0].params["max_tokens"] in {99, 100}


@pytest.mark.parametrize("budget", [Budget(calls=3), Budget(seconds=60), Budget(usd=1)])
def test_nothing_is_bounded_that_no_limit_asks_for(budget: Budget) -> None:
    script = Script()
    metered(script, budget).complete(ask())
    assert "max_tokens" not in script.asked[0].params


def test_a_request_s_own_max_tokens_is_kept_and_must_fit() -> None:
    script = Script([used(10, 10)])
    model = metered(script, Budget(tokens=500))
    model.complete(ask(max_tokens=300))
    assert script.asked[0].params["max_tokens"] == 300
    with pytest.raises(BudgetExceeded, match=r"could take 5\d\d, and 480 of 500 tokens are left"):
        model.complete(ask(max_tokens=480))
    with pytest.raises(BudgetExceeded):
        model.complete(ask(max_completion_tokens=480))


@given(st.text(), st.text())
def test_the_bound_of_a_prompt_is_never_less_than_its_bytes(text: str, more: str) -> None:
    said = (text * 99, more * 99)  # long enough not to hide behind what messages are counted for
    request = Request(messages=tuple({"role": "user", "content": each} for each in said))
    assert prompt_bound(request) >= len("".join(said).encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(prompt_tokens=-5, completion_tokens=-5),
        Usage(prompt_tokens=10**12, completion_tokens=10**12, cached_tokens=-3),
    ],
)
def test_a_usage_that_cannot_be_is_estimated(usage: Usage) -> None:
    budget = Budget(tokens=10_000)
    text = "A long answer. " * 20
    metered(Script([Completion(text=text, usage=usage)]), budget).complete(ask("hello " * 20))
    assert 100 <= budget.spent.tokens <= 120
    row = budget.ledger.totals()
    assert row.usage.cached_tokens == 0


@pytest.mark.parametrize("cost", [None, -1.0, math.nan, math.inf])
def test_a_cost_that_cannot_be_is_what_the_tokens_cost(cost: float | None) -> None:
    budget = Budget(usd=1)
    metered(Script([used(10, 10, cost)]), budget, price=DEAR).complete(ask(max_tokens=10))
    assert budget.spent.usd == pytest.approx(DEAR.of(10, 10))


def test_what_a_provider_adds_to_prompts_is_learnt() -> None:
    """A provider that reads more than it was sent overdraws a budget once, and not again."""
    budget = Budget(tokens=1_200)
    model = metered(Script([used(500, 5)]), budget)
    model.complete(ask(max_tokens=5))
    model.complete(ask(max_tokens=5))
    with pytest.raises(BudgetExceeded):
        model.complete(ask(max_tokens=5))
    assert budget.spent.tokens == 1_010


def test_a_function_whose_answers_cost_is_held_to_the_budget() -> None:
    budget = Budget(usd=0.05)
    model = Metered(Priced(FunctionModel(lambda _: used(1, 1, 0.02)), "mine"), budget=budget)
    model.complete(ask())
    model.complete(ask())
    with pytest.raises(BudgetExceeded):
        model.complete(ask())
    assert budget.spent.usd == 0.04


# Prices.


def test_dollars_cannot_be_kept_to_without_a_price() -> None:
    script = Script()
    with pytest.raises(UsageError, match=r"nobody knows what 'openai/m' costs.*prices="):
        metered(script, Budget(usd=1), price=None).complete(ask())
    assert script.asked == []
    metered(script, Budget(calls=1), price=None).complete(ask())


def test_a_given_price_comes_before_all_others() -> None:
    budget = Budget(usd=1, prices={"openai/m": (1.0, 2.0)})
    for price in (None, DEAR):
        metered(Script([used(1000, 1000, 0.5)]), budget, price=price).complete(ask(max_tokens=9))
    assert budget.spent.usd == pytest.approx(2 * 0.003)


def test_what_runs_here_is_free() -> None:
    budget = Budget(usd=1e-9)
    model = Metered(Priced(FunctionModel(lambda _: "hi"), "mine"), budget=budget)
    for _ in range(3):
        model.complete(ask())
    assert budget.spent.usd == 0


@pytest.mark.parametrize("pair", [(1,), (1, 2, 3), (-1, 1), (math.nan, 1), ("1", 2), 3])
def test_a_price_is_two_amounts(pair: Any) -> None:
    with pytest.raises(UsageError, match="is no price"):
        Budget(prices={"openai/m": pair})


# At the limit.


def test_at_the_limit_a_call_is_refused_before_it_is_made() -> None:
    script = Script()
    budget = Budget(calls=2, name="ann")
    model = metered(script, budget)
    for _ in range(2):
        model.complete(ask())
    with turn() as payer, pytest.raises(BudgetExceeded, match=r"'ann' has no room") as caught:
        model.complete(ask())
    assert (caught.value.limit, caught.value.place) == ("calls", "ann")
    assert len(script.asked) == 2
    assert payer.ended == [budget]
    with pytest.raises(BudgetExceeded):
        asyncio.run(model.acomplete(ask()))


def test_at_the_limit_another_model_answers_at_its_own_price() -> None:
    cheap = Script([used(10, 10, None)], name="openai/mini")
    made: list[str] = []

    def degrade(name: str) -> Priced:
        made.append(name)
        return Priced(cheap, name, lambda: Price(1e-6, 1e-6))

    script = Script([used(10, 10, 0.5)])
    budget = Budget(calls=1, usd=1, on_exceed="degrade:openai/mini")
    outer = Budget(calls=3)
    model = metered(script, budget, price=DEAR, degrade=degrade)
    with turn(outer):
        for _ in range(3):
            model.complete(ask(max_tokens=10))
        with pytest.raises(BudgetExceeded):  # the outer one says nothing of another model
            model.complete(ask(max_tokens=10))
    assert set(made) == {"openai/mini"}
    assert [len(s.asked) for s in (script, cheap)] == [1, 2]
    assert budget.spent.calls == 1
    assert outer.spent.calls == 3
    assert budget.spent.usd == pytest.approx(0.5 + 2 * 20e-6)
    assert [row.model for row in budget.ledger.table(["model"])] == ["openai/m", "openai/mini"]


def test_dollars_hold_for_the_other_model_too() -> None:
    budget = Budget(usd=0.001, on_exceed="degrade:openai/mini")
    script = Script([used(10, 90, None)])
    other = Priced(script, "openai/mini", lambda: Price(1e-6, 1e-6))
    model = metered(None, budget, price=Price(1, 1), degrade=lambda _: other)
    with pytest.raises(BudgetExceeded, match="usd are left"):
        [model.complete(ask(max_tokens=90)) for _ in range(100)]
    assert budget.spent.usd == pytest.approx(len(script.asked) * 100e-6)
    assert 0.0008 < budget.spent.usd <= 0.001


def test_without_anybody_who_makes_the_other_model_the_error_says_so() -> None:
    model = metered(None, Budget(calls=1, on_exceed="degrade:openai/mini"))
    model.complete(ask())
    with pytest.raises(UsageError, match="Metered"):
        model.complete(ask())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_is_asked_and_may_raise_the_limit(is_async: bool) -> None:  # noqa: FBT001
    questions: list[BudgetExceeded] = []

    def more(error: BudgetExceeded) -> Budget | None:
        questions.append(error)
        return Budget(calls=2) if len(questions) == 1 else None

    async def amore(error: BudgetExceeded) -> Budget | None:
        await asyncio.sleep(0)
        return more(error)

    budget = Budget(calls=1, on_exceed=amore if is_async else more)
    model = metered(None, budget)
    for _ in range(2):
        assert model.complete(ask()) == DONE
    assert asyncio.run(model.acomplete(ask())) == DONE
    assert budget.limits.calls == 3
    with pytest.raises(BudgetExceeded):
        model.complete(ask())
    assert [question.limit for question in questions] == ["calls", "calls"]


def test_a_raise_of_something_else_is_none() -> None:
    budget = Budget(calls=1, on_exceed=lambda _: Budget(usd=5))
    model = metered(None, budget)
    model.complete(ask())
    with pytest.raises(BudgetExceeded):
        model.complete(ask())


def test_seconds_begin_with_the_first_call_and_end_those_under_way() -> None:
    clock = Clock(100)
    script = Script()
    budget = Budget(seconds=10, clock=clock)
    model = metered(script, budget)
    clock.now += 1000
    model.complete(ask())
    clock.now += 4
    model.complete(ask(timeout=60))
    model.complete(ask(timeout=2))
    assert [request.timeout for request in script.asked] == [10, 6, 2]
    assert (budget.spent.seconds, budget.left.seconds) == (4, 6)
    clock.now += 6
    with pytest.raises(BudgetExceeded, match="10 seconds since the first call are over"):
        model.complete(ask())


# Calls that fail, and streams.


@pytest.mark.parametrize(("wrong", "calls"), [(failure(), 1), (CircuitOpen("No."), 0)])
def test_a_failed_call_is_a_call_if_it_was_made_and_takes_no_tokens(
    wrong: ModelCallError, calls: int
) -> None:
    budget = Budget(tokens=10_000, calls=5)
    with pytest.raises(ModelCallError):
        metered(Script([wrong]), budget).complete(ask())
    assert (budget.spent.calls, budget.spent.tokens) == (calls, 0)
    assert budget.statistics().reserved == Spending()
    assert budget.ledger.totals().errors == 1


class Talker(Script):
    """A model that talks in pieces."""

    def stream(self, request: Request) -> Iterator[Chunk]:
        yield Chunk("four" * 10)
        yield Chunk("four" * 10)
        yield Chunk(completion=used(7, 23))

    async def astream(self, request: Request) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk


def test_a_stream_is_paid_for_when_it_is_whole() -> None:
    budget = Budget(tokens=10_000)
    model = metered(Talker(), budget)
    assert [str(chunk) for chunk in model.stream(ask())] == ["four" * 10, "four" * 10, ""]
    assert (budget.spent.tokens, budget.statistics().reserved) == (30, Spending())


def test_whoever_leaves_a_stream_pays_for_what_was_said() -> None:
    budget = Budget(tokens=10_000)
    chunks = metered(Talker(), budget).stream(ask("word"))
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert (budget.spent.calls, budget.spent.tokens) == (1, 12)
    assert budget.ledger.totals().errors == 0


def test_a_cancelled_call_gives_back_what_it_held() -> None:
    budget = Budget(tokens=10_000)

    class Deaf(Script):
        async def acomplete(self, request: Request) -> Completion:
            await asyncio.Event().wait()
            return DONE

    async def story() -> None:
        task = asyncio.ensure_future(metered(Deaf(), budget).acomplete(ask()))
        await asyncio.sleep(0)
        assert budget.statistics().reserved.calls == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert budget.statistics().reserved == Spending()


def test_a_stream_that_the_garbage_collector_closes_may_be_closed_at_any_moment() -> None:
    """Also while its own thread is reserving: a finalizer that waited there would wait for ever."""
    left: list[Any] = []

    def clock() -> float:
        while left:
            left.pop().close()  # as the collector would, in the middle of whatever it is
        return 0.0

    budget = Budget(tokens=10_000, clock=clock)
    model = metered(Limited(Talker(), Limits(max_concurrency=1)), budget)

    def story() -> None:
        budget.account.begun = None
        chunks = model.stream(ask("word"))
        next(chunks)
        left.append(chunks)
        budget.account.begun = None
        reserve([budget], calls=1).release()
        assert model.complete(ask(timeout=1)) == DONE

    within_deadline(story)
    assert not left
    assert (budget.spent.calls, budget.spent.tokens) == (2, 12 + 3)
    assert budget.statistics().reserved == Spending()


# Who pays.


def test_a_call_is_charged_to_all_accounts_of_its_turn_once() -> None:
    agent, network, run, handle = (Budget(calls=9) for _ in range(4))
    model = metered(Script([used(3, 4)]), handle)
    with turn(agent, network, run, network, handle):
        model.complete(ask())
    model.complete(ask(place="outside"))
    assert [b.spent.calls for b in (agent, network, run, handle)] == [1, 1, 1, 2]
    rows = handle.ledger.table()
    assert [(row.agent, row.method) for row in rows] == [("firm/ann", "step"), ("outside", "")]


def test_whoever_has_no_budget_is_not_counted() -> None:
    assert metered(None).complete(ask()) == DONE


def test_retries_below_are_counted_above() -> None:
    budget = Budget(calls=9)
    inner = Limited(Script([failure(), failure(), DONE]), Limits(retries=3), luck=Still())
    metered(inner, budget).complete(ask())
    row = budget.ledger.totals()
    assert (row.calls, row.errors, row.retries) == (1, 0, 2)


class Still(random.Random):
    """Luck that never makes anybody wait."""

    def uniform(self, a: float, b: float) -> float:
        return a


# Copies, pickles, JSON.


def spent_budget() -> Budget:
    budget = Budget(calls=5, usd=2.5, name="ann")
    reserve([budget], calls=1, tokens=7, usd=0.5).settle(Usage(prompt_tokens=7), 0.5)
    return budget


def test_copies_have_the_limits_and_have_spent_nothing() -> None:
    budget = spent_budget()
    budget.ledger.enter("firm/ann:step", "openai/m")
    for other in (copy.copy(budget), copy.deepcopy(budget)):
        assert (other.limits, other.name, other.spent) == (budget.limits, "ann", Spending())
        reserve([other], calls=1)
        assert other.ledger.totals().calls == 0
    assert budget.spent.calls == 1
    assert budget.statistics().reserved == Spending()


def test_a_pickle_keeps_what_was_spent_and_the_time_that_is_over() -> None:
    budget = spent_budget()
    reserve([budget], calls=1)  # under way here, so not there
    other = pickle.loads(pickle.dumps(budget))
    assert other.limits == budget.limits
    assert (other.spent.calls, other.spent.usd) == (1, 0.5)
    assert other.spent.seconds >= budget.spent.seconds - 1
    assert other.statistics().reserved == Spending()


class Holder(BaseModel):
    budget: Budget


def test_a_budget_is_a_field_whose_json_has_limits_and_what_was_spent() -> None:
    holder = Holder(budget=spent_budget())
    assert Holder.model_validate(holder.model_dump()).budget is holder.budget
    again = Holder.model_validate_json(holder.model_dump_json()).budget
    assert again.limits == holder.budget.limits
    assert replace(again.spent, seconds=0) == Spending(calls=1, tokens=7, usd=0.5)
    for wrong in ("{}", '{"budget": 3}', '{"budget": {"limits": {"cals": 1}, "spent": {}}}'):
        with pytest.raises(ValueError, match="budget"):
            Holder.model_validate_json(wrong)


@pytest.mark.parametrize("kind", ["calls", "tokens", "usd", "seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "7"])
def test_a_limit_that_calls_cannot_be_held_to_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"Budget\({kind}="):
        Budget(**{kind: value})


@pytest.mark.parametrize("word", ["", "warn", "degrade:", "degrade", None, 3])
def test_what_happens_at_the_limit_must_be_known(word: Any) -> None:
    with pytest.raises(UsageError, match="on_exceed="):
        Budget(calls=1, on_exceed=word)


def test_a_charge_of_dollars_only_takes_nothing_else() -> None:
    budget = Budget(calls=1, tokens=1, usd=1)
    charge = Charge(budget.account, DEAR, dollars_only=True)
    held = reserve_in([charge], Demand(prompt=10, answer=10))
    assert isinstance(held, Reservation)
    held.settle(Usage(prompt_tokens=10))
    assert replace(budget.spent, seconds=0) == Spending(usd=3e-5)


def test_a_call_that_is_not_let_through_was_not_made() -> None:
    class Closed:
        def hold(self, make: Any) -> Any:
            raise RuntimeError("closed")

        async def ahold(self, make: Any) -> Any:
            raise RuntimeError("closed")

    budget = Budget(calls=1)
    llm = ModuleLLM(lambda request: "yes", budget=budget)
    token = TURNSTILE.set(Closed())
    try:
        with pytest.raises(RuntimeError, match="closed"):
            llm.generate("May I?")
        with pytest.raises(RuntimeError, match="closed"):
            asyncio.run(llm.agenerate("May I?"))
    finally:
        TURNSTILE.reset(token)
    assert str(llm.generate("May I?")) == "yes"
    assert budget.spent.calls == 1
