"""Supervision beside a plain model: dicts and a clock that say who restarts when, and who waits."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import Field

from llm_net import (
    DeadLetter,
    Deterministic,
    Envelope,
    GenAgent,
    GenNetwork,
    HandlerError,
    Instrument,
    Message,
    Runtime,
    Supervision,
)

log = logging.getLogger("llm_net")

NAMES = "abcd"
INSIDE = {"c": "net/inner/c"}
TICK = 0.001
"""Time that passes with each step, so that no two things are due at once."""

policies = st.builds(
    Supervision,
    strategy=st.sampled_from(["one_for_one", "all_for_one", "rest_for_one"]),
    directive=st.sampled_from(["restart", "restart", "restart", "resume"]),
    max_restarts=st.none() | st.integers(0, 4),
    window_s=st.none() | st.sampled_from([3.0, 8.0]),
    backoff_s=st.sampled_from([0.0, 0.0, 1.0]),
    max_backoff_s=st.none() | st.just(3.0),
    keep_state=st.booleans(),
    max_tries=st.none() | st.integers(1, 3),
)


class Worker(GenAgent):
    """Counts what it handles, and what fails."""

    blocking = False
    count: int = 0
    log: list[str] = Field(default_factory=list)

    def step(self, message: Message) -> None:
        self.count += 1
        self.log.append(message.body)
        if message.body == "bad":
            raise ValueError(message.body)


class Clock(GenAgent):
    """Lets virtual time pass."""

    async def astep(self, message: Message) -> str:
        await self.sleep(float(message.body))
        return ""


class Watch(Instrument):
    """Looks whether the counts add up whenever anything happens, and when restarts do."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.broken: list[str] = []
        self.restarts: dict[str, list[float]] = {}

    def look(self, hook: str) -> None:
        assert self.runtime is not None
        counts = self.runtime.statistics()
        if counts.sent != counts.delivered + counts.queued + counts.dead:
            self.broken.append(f"{hook}: {counts}")

    def send(self, envelope: Envelope, receiver: str) -> None:
        self.look("send")

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        self.look("deliver")

    def finish(self, envelope: Envelope, receiver: str) -> None:
        self.look("finish")

    def fail(self, error: HandlerError) -> None:
        self.look("fail")

    def drop(self, letter: DeadLetter) -> None:
        self.look("drop")

    def restart(self, path: str) -> None:
        assert isinstance(self.runtime, Deterministic)
        self.restarts.setdefault(path, []).append(self.runtime.time())
        self.look("restart")


# -- the model


@dataclass
class Agent:
    """What an agent is to be."""

    policy: Supervision
    at_start: int
    log: list[str] = field(default_factory=list)
    queue: deque[str] = field(default_factory=deque)
    tries: int = 0
    """How often the head of the queue has failed."""
    own: list[float] = field(default_factory=list)
    """When it was restarted for a failure of its own."""
    due: float | None = None
    keeps: bool = False
    delivered: int = 0
    dead: int = 0
    failures: int = 0
    restarts: int = 0

    def counted(self, since: float) -> int:
        return sum(when > since for when in self.own)


class Model:
    """A network of a few agents, one of which stands in a network inside."""

    def __init__(self, agents: dict[str, Agent]) -> None:
        self.agents = agents
        self.now = 0.0
        self.over = False

    def touched(self, name: str) -> str:
        """Whom a failure of this agent restarts; the one inside has no siblings."""
        outside = "".join(each for each in self.agents if each not in INSIDE)
        strategy = self.agents[name].policy.strategy
        if strategy == "one_for_one" or name in INSIDE:
            return name
        if strategy == "all_for_one":
            # The network inside is a member, too, and all below it are restarted.
            return "".join(self.agents)
        rest = outside[outside.index(name) :]
        return rest + "".join(each for each in self.agents if each in INSIDE)

    def serve(self, name: str) -> None:
        agent = self.agents[name]
        while agent.queue and agent.due is None and not self.over:
            body = agent.queue.popleft()
            agent.delivered += 1
            agent.log.append(body)
            if body == "bad":
                self.fail(name)

    def fail(self, name: str) -> None:
        agent, policy = self.agents[name], self.agents[name].policy
        agent.failures += 1
        agent.tries += 1
        again = policy.max_tries is not None and agent.tries < policy.max_tries
        if policy.max_tries is not None and not again:
            agent.delivered -= 1
            agent.dead += 1
        if policy.directive == "restart" and not self.restart(name):
            self.stop()
            return
        if again:
            agent.delivered -= 1
            agent.queue.appendleft("bad")
        else:
            agent.tries = 0

    def restart(self, name: str) -> bool:
        agent, policy = self.agents[name], self.agents[name].policy
        window = policy.window_s
        earlier = len(agent.own) if window is None else agent.counted(self.now - window)
        delay = 0.0 if not policy.backoff_s else policy.backoff_s * 2**earlier
        if policy.max_backoff_s is not None:
            delay = min(delay, policy.max_backoff_s)
        due = self.now + delay
        near = len(agent.own) if window is None else agent.counted(due - window)
        if policy.max_restarts is not None and near >= policy.max_restarts:
            return False
        agent.own.append(due)
        for each in map(self.agents.__getitem__, self.touched(name)):
            keeps = policy.keep_state
            if each.due is not None:
                keeps = keeps and each.keeps
            each.due = due if each.due is None else max(each.due, due)
            each.keeps = keeps
        if not delay:
            self.ring()
        return True

    def ring(self) -> None:
        """Restart those whose time has come."""
        for agent in self.agents.values():
            if agent.due is not None and agent.due <= self.now:
                agent.due = None
                agent.restarts += 1
                if not agent.keeps:
                    agent.log.clear()

    def stop(self) -> None:
        """A failure past the top: the network stops."""
        self.over = True
        for agent in self.agents.values():
            agent.due = None
            agent.dead += len(agent.queue)
            agent.queue.clear()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while not self.over:
            due = min((each.due for each in self.agents.values() if each.due), default=end)
            if due >= end:
                break
            self.now = due
            self.ring()
            for name in self.agents:
                self.serve(name)
        self.now = end

    def affected(self, name: str) -> set[str]:
        """Agents whose order among each other would matter, if this one fails later."""
        return set(self.touched(name))


class SupervisedNetwork(RuleBasedStateMachine):
    """Messages, failures and time, in any order."""

    @initialize(
        own=st.lists(policies, min_size=2, max_size=4),
        starts=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    )
    def start(self, own: list[Supervision], starts: list[int]) -> None:
        self.level = log.level
        log.setLevel(logging.CRITICAL)  # failures are made on purpose here
        self.watch = Watch()
        self.runtime = self.watch.runtime = Deterministic(0, instruments=[self.watch])
        names = NAMES[: len(own)]
        workers = {
            name: Worker(name=name, count=count, supervision=policy)
            for name, count, policy in zip(names, starts, own, strict=False)
        }
        outside: list[GenAgent] = [workers[name] for name in names if name not in INSIDE]
        if "c" in workers:
            outside.append(GenNetwork(name="inner", agents=[workers["c"]]))
        self.workers = workers
        self.model = Model(
            {
                name: Agent(policy, count)
                for name, count, policy in zip(names, starts, own, strict=False)
            }
        )
        self.clock = Clock().start(runtime=self.runtime)
        # What the agent inside hands on, no network above answers.
        self.net = GenNetwork(
            name="net", agents=outside, supervision=Supervision(directive="escalate")
        )
        self.net.start(runtime=self.runtime)
        self.refs = {name: worker.ref for name, worker in workers.items()}
        self.last = {name: Agent(agent.policy, 0) for name, agent in self.model.agents.items()}

    def elapse(self, seconds: float) -> None:
        self.clock.ask(str(seconds), timeout=None)
        self.model.pass_time(seconds)

    def may_send(self, name: str) -> bool:
        """Whether what comes of it is the model's to know: the order of siblings is nobody's."""
        agents = self.model.agents
        bad = [each for each, agent in agents.items() if "bad" in agent.queue]
        reached = set[str]().union(*(self.model.affected(each) for each in bad))
        return name in bad or name not in reached

    @precondition(lambda self: not self.model.over)
    @rule(data=st.data())
    def good(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.refs)))
        if self.may_send(name):
            self.tell(name, "good")

    @precondition(lambda self: not self.model.over)
    @rule(data=st.data())
    def bad(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.refs)))
        agents = self.model.agents
        others = self.model.affected(name) - {name}
        # A failure to come, and messages of those whom it touches: in which order is open.
        waits = agents[name].due is not None or agents[name].policy.max_tries is not None
        if waits and any(agents[each].queue for each in others):
            return
        bad = [each for each, agent in agents.items() if "bad" in agent.queue and each != name]
        if not bad and self.may_send(name):
            self.tell(name, "bad")

    def tell(self, name: str, body: str) -> None:
        self.refs[name].tell(body)
        self.model.agents[name].queue.append(body)
        self.model.serve(name)
        self.elapse(TICK)

    @rule(seconds=st.sampled_from([0.3, 0.9, 2.2, 9.0]))
    def wait(self, seconds: float) -> None:
        self.elapse(seconds)

    @invariant()
    def agents_are_as_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        for name, expected in self.model.agents.items():
            worker = self.workers[name]
            if self.model.over:
                # What stops them all and what others have waited for may come in any order.
                more = worker.log[len(expected.log) :]
                assert worker.log == expected.log + more, name
                assert set(more) <= {"good"}, name
                continue
            assert worker.log == expected.log, name
            assert worker.count == expected.at_start + len(expected.log), name
            counts = worker.statistics()
            assert (counts.delivered, counts.queued, counts.dead) == (
                expected.delivered,
                len(expected.queue),
                expected.dead,
            ), name
            assert (counts.failures, counts.restarts) == (
                expected.failures,
                expected.restarts,
            ), name

    @invariant()
    def the_network_lives_as_long_as_the_model(self) -> None:
        if hasattr(self, "model"):
            assert self.net.ref.is_alive() is not self.model.over
            total = self.runtime.statistics()
            dead = sum(agent.dead for agent in self.model.agents.values())
            assert total.dead == dead

    @invariant()
    def no_window_has_more_restarts_than_allowed(self) -> None:
        if not hasattr(self, "model"):
            return
        agents = self.model.agents
        if any(agent.policy.strategy != "one_for_one" for agent in agents.values()):
            return
        for name, agent in agents.items():
            most, window = agent.policy.max_restarts, agent.policy.window_s
            times = self.watch.restarts.get(INSIDE.get(name, f"net/{name}"), [])
            if most is not None:
                for last in times:
                    near = [t for t in times if t <= last and (not window or t > last - window)]
                    assert len(near) <= most

    @invariant()
    def sent_is_delivered_and_queued_and_dead(self) -> None:
        if hasattr(self, "watch"):
            assert self.watch.broken == []

    def teardown(self) -> None:
        if hasattr(self, "net"):
            log.setLevel(self.level)
            if not self.model.over:
                self.net.ref.stop(drain=False)
            self.clock.stop()
            assert self.runtime.engine.held == 0
            assert self.runtime.world.open == 0
            counts = self.runtime.statistics()
            assert counts.sent == counts.delivered + counts.dead


TestSupervisedNetwork = SupervisedNetwork.TestCase
TestSupervisedNetwork.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
