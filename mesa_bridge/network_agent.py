"""`NetworkAgent`: a network of agents as one Mesa agent.

Bridge, floor 4. One Mesa step is an observation, one exchange with the network, and a plan that is
carried out. What lives (the runtime, its threads, its loop) hangs on no Mesa object: those pickle
and copy, and take a snapshot of the network with them.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import mesa
from pydantic import ValidationError

from llm_net import GenAgent, Message
from llm_net.errors import UsageError
from llm_net.reasoning.gate import through, through_async
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.tools.manager import ToolManager
from llm_net.tools.result import ToolResult
from mesa_bridge import observing
from mesa_bridge.exchange import Bounds, Exchange, LiveNetwork, Rest
from mesa_bridge.place import named
from mesa_bridge.randomness import PlanningRandom, derived_seed
from mesa_bridge.recording import record

__all__ = ["NetworkAgent"]

_log = logging.getLogger("mesa_bridge")

_live: weakref.WeakKeyDictionary[NetworkAgent, LiveNetwork] = weakref.WeakKeyDictionary()
"""The networks that live, by their agents."""


class NetworkAgent(PlanningRandom, mesa.Agent):
    """A Mesa agent that owns a network, or a single agent, and does what that says.

    Each step it observes, tells the network, and carries out the plan that comes out. The network
    lives as long as the agent, in a deterministic runtime of its own whose seed follows from the
    model's and the agent's id; between steps it rests. A pickle or a copy has the network as it
    rests: fields, messages that wait, random sources. (Hooks run again where it goes on.)

    Args:
        model: The Mesa model.
        network: A `GenNetwork` with an entry, or a `GenAgent`: a blueprint, which is copied.
        vision: How far the agent sees; -1 for all agents, None for none.
        global_keys: The names of the model's attributes that are observed.
        tool_manager: The tools that its plans may use.
        max_messages: Deliveries in one exchange; what is left waits for the next step.
        max_rounds: Messages in one exchange that cause each other, likewise.
        max_seconds: Seconds on the wall for one exchange, likewise; a run with one of these is not
            repeatable.

    Raises:
        UsageError: If a bound is none.
    """

    body_of_network: ClassVar[str] = "step"
    """The method under which the observation enters."""

    def __init__(
        self,
        model: Any,
        network: GenAgent,
        *args: Any,
        vision: float | None = None,
        global_keys: Sequence[str] = (),
        tool_manager: ToolManager | None = None,
        max_messages: int | None = 1000,
        max_rounds: int | None = 50,
        max_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, *args, **kwargs)
        if not isinstance(network, GenAgent):
            raise UsageError(
                f"network={network!r} is no network. Give a GenNetwork or a GenAgent (an object, "
                "not its class): each Mesa agent lives on a copy of it."
            )
        self.vision = vision
        self.global_keys = tuple(global_keys)
        self.tool_manager = tool_manager or ToolManager()
        self.internal_state: list[str] = []
        self.last_exchange: Exchange | None = None
        self._bounds = Bounds(max_messages, max_rounds, max_seconds)
        self._rest: Rest | None = Rest(
            network.model_copy(deep=True), derived_seed(self.model, f"network {self.unique_id}")
        )

    @property
    def network(self) -> GenAgent:
        """The agent's own network; live since its first step."""
        live = _live.get(self)
        if live is not None:
            return live.network
        assert self._rest is not None, "it rests until it lives"
        return self._rest.network

    # -- one step

    def step(self) -> None:
        """Observe, exchange, act."""
        observation = self._look()
        exchange = through(self, lambda: self._exchange(observation))
        self._carry_out(self.to_plan(observation, exchange.outputs))

    async def astep(self) -> None:
        """As `step`, without blocking the event loop."""
        observation = self._look()
        exchange = await through_async(self, lambda: self._aexchange(observation))
        self._carry_out(self.to_plan(observation, exchange.outputs))

    def observe(self) -> Observation:
        """What the agent sees now."""
        return observing.observe(
            self,
            vision=self.vision,
            internal_state=self.internal_state,
            global_keys=self.global_keys,
        )

    def to_plan(self, observation: Observation, outputs: Sequence[Message]) -> Plan:
        """The plan that the network's words make.

        Messages with the method `plan` have a plan's JSON as their body; they are joined in order.
        The bodies of all others are thoughts.
        """
        plans: list[Plan] = []
        thoughts: list[str] = []
        for message in outputs:
            plan = _plan_in(message)
            if plan is None:
                thoughts.append(message.body)
            else:
                plans.append(plan)
                thoughts.append(plan.thoughts)
        if not outputs:
            thoughts = [f"{self.network.name} had nothing to say."]
        return Plan(
            step=observation.step,
            thoughts="\n".join(each for each in thoughts if each),
            actions=[action for plan in plans for action in plan.actions],
            ttl=min((plan.ttl for plan in plans), default=1),
        )

    def act(self, plan: Plan) -> list[ToolResult]:
        """Carry out the plan's actions, each once, in order; a failure is a value."""
        return [self._run(action) for action in plan.actions]

    def _look(self) -> Observation:
        observation = self.observe()
        told = {name: part for name, part in observation if name != "step"}
        record(self, "observation", told)
        return observation

    def _carry_out(self, plan: Plan) -> None:
        record(self, "plan", plan)
        self.act(plan)

    def _run(self, action: Action) -> ToolResult:
        result = self.tool_manager.run(action.name, action.arguments, agent=self, id=action.id)
        if not self.tool_manager.has_tool(action.name):
            _log.warning("%s cannot do what its network plans: %s", named(self), result.error)
        record(self, "action", {**result.to_dict(), "arguments": action.arguments})
        return result

    # -- the network

    def _exchange(self, observation: Observation) -> Exchange:
        message = Message(observation.model_dump_json(), method=self.body_of_network)
        self.last_exchange = self._living().exchange(message, self._bounds)
        for failure in self.last_exchange.failures:
            _log.warning("%s, in its network: %s", named(self), failure)
        return self.last_exchange

    async def _aexchange(self, observation: Observation) -> Exchange:
        return await asyncio.to_thread(self._exchange, observation)

    def _living(self) -> LiveNetwork:
        live = _live.get(self)
        if live is None:
            if self._rest is None:
                raise UsageError(
                    f"{type(self).__name__} {self.unique_id} was removed from its model, and its "
                    "network has stopped. Step agents of the model only."
                )
            live = _live[self] = LiveNetwork(self._rest)
            self._rest = None
            weakref.finalize(self, live.stop).atexit = False
        return live

    def remove(self) -> None:
        """Leave the model; the network stops."""
        live = _live.pop(self, None)
        if live is not None:
            live.stop()
        self._rest = None
        super().remove()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what lives; in its place the network as it rests.

        Raises:
            UsageError: If the network is in the middle of a step.
        """
        live = _live.get(self)
        state = dict(self.__dict__)
        if live is not None:
            state["_rest"] = live.rest()
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> NetworkAgent:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in self.__getstate__().items():
            setattr(twin, name, _copied(value, memo))
        return twin


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if not isinstance(value, Rest):
        return copy.deepcopy(value, memo)
    network = value.network.model_copy(deep=True)
    rest = copy.copy(value)
    rest.network = network
    return rest


def _plan_in(message: Message) -> Plan | None:
    if message.method != "plan":
        return None
    try:
        return Plan.model_validate_json(message.body)
    except ValidationError:
        return None  # what cannot be read is words
