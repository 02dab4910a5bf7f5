"""`NetworkModel`: a network of agents as a Mesa model.

Bridge, floor 4. Each agent of the network has a Mesa agent that stands for it. A step delivers, in
Mesa's order of activation, what was queued when it began; what comes of it is for the next step.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import mesa

from llm_net import DeadLetter, GenAgent, GenNetwork, HandlerError, Message, Statistics
from llm_net.errors import UsageError
from mesa_bridge import versions
from mesa_bridge.exchange import LiveNetwork, Rest
from mesa_bridge.randomness import derived_seed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NetworkModel", "NodeAgent"]

_live: weakref.WeakKeyDictionary[NetworkModel, LiveNetwork] = weakref.WeakKeyDictionary()

_COLUMNS = ("step", "sender", "receiver", "method", "body")


class NodeAgent(mesa.Agent):
    """Stands in Mesa for one agent of the network.

    Attributes:
        path: The agent's path in the network.
    """

    def __init__(self, model: NetworkModel, path: str) -> None:
        super().__init__(model)
        self.path = path

    @property
    def agent(self) -> GenAgent:
        """The agent itself; its fields are its state."""
        return self._whole.agent_at(self.path)

    @property
    def statistics(self) -> Statistics:
        """What it has sent, and what has come to it."""
        return self.agent.statistics()

    def step(self) -> None:
        """Let the agent handle what was queued for it when the model's step began."""
        self._whole.deliver(self.path)

    @property
    def _whole(self) -> NetworkModel:
        return cast("NetworkModel", self.model)


class NetworkModel(mesa.Model):
    """A network in rounds: each step every agent handles what had come before the step.

    Every agent of the network that is no network itself, on any level, has a `NodeAgent`. Virtual
    time goes on by a second a step, for timers. The model pickles and copies between steps.

    ```python
    import networkx

    from llm_net import GenAgent, GenNetwork, Message
    from mesa_bridge import NetworkModel


    class Citizen(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.emit("step", message.body)


    street = GenNetwork.from_graph(networkx.path_graph(["ann", "bob", "cy"]), agent=Citizen())
    street.entry = "ann"
    model = NetworkModel(street, rng=1, entry_message="hello")
    model.step()
    ```

    Args:
        network: A network with an entry, of which a copy is taken; or a function that makes one
            (for `mesa.batch_run` a function of a module).
        rng: As Mesa's.
        entry_message: What the network is told before the first step.

    Attributes:
        messages: Every message so far, as (step, sender, receiver, method, body).
        outputs: What has left the network.
        dead_letters: What nobody took.
        failures: The errors of handlers that raised.
    """

    def __init__(
        self,
        network: GenNetwork | Callable[[], GenNetwork],
        *,
        rng: Any = None,
        entry_message: Message | str | None = None,
    ) -> None:
        super().__init__(rng=rng)
        own = network.model_copy(deep=True) if isinstance(network, GenNetwork) else network()
        self._rest: Rest | None = Rest(own, derived_seed(self, "network"))
        self.messages: list[tuple[int, str, str, str, str]] = []
        self.outputs: list[Message] = []
        self.dead_letters: list[DeadLetter] = []
        self.failures: list[HandlerError] = []
        living = self._living()
        for cell in living.cells:
            if not cell.node.is_network:
                NodeAgent(self, cell.node.path)
        if entry_message is not None:
            message = entry_message
            if isinstance(message, str):
                message = Message(message)
            living.tell(message)
        self.datacollector = mesa.DataCollector(
            model_reporters={
                "sent": _sent,
                "delivered": _handled,
                "queued": _queued,
                "dead": _dead,
            },
            agent_reporters={"path": _path, "handled": _delivered},
        )
        self._gather()
        self.datacollector.collect(self)

    @property
    def network(self) -> GenNetwork:
        """The network; live."""
        return cast("GenNetwork", self._living().network)

    def agent_at(self, path: str) -> GenAgent:
        """The agent of the network with this path."""
        found: GenAgent = self.network[path]
        return found

    def statistics(self) -> Statistics:
        """The counts of the network's life so far."""
        return self._living().statistics()

    def step(self) -> None:
        """Deliver what was queued when the step began, agent after agent in Mesa's order."""
        living = self._living()
        # Until its turn comes, nobody handles anything.
        self._due = {cell.node.path: cell.latest for cell in living.cells}
        living.hold()
        self.agents.shuffle_do("step")
        living.pass_time(1.0)
        self._gather()
        self.datacollector.collect(self)

    def deliver(self, path: str) -> None:
        """Let one agent handle what was queued for it when the step began."""
        self._living().let_handle(path, self._due.get(path, 0))

    # -- frames

    def messages_frame(self) -> pd.DataFrame:
        """One row a message: step, sender, receiver, method, body."""
        import pandas as pd  # noqa: PLC0415 - Mesa brings it; it is slow to import

        return pd.DataFrame(self.messages, columns=list(_COLUMNS))

    def edges_frame(self) -> pd.DataFrame:
        """One row an edge of the outermost network: u, event, v, and how often it was used."""
        import pandas as pd  # noqa: PLC0415

        root = self.network.name
        used: dict[tuple[str, str, str], int] = {}
        for _, sender, receiver, method, _ in self.messages:
            key = (sender.removeprefix(f"{root}/"), method, receiver.removeprefix(f"{root}/"))
            used[key] = used.get(key, 0) + 1
        rows = [(u, event, v, used.get((u, event, v), 0)) for u, event, v, *_ in self.network.edges]
        return pd.DataFrame(rows, columns=["u", "event", "v", "messages"])

    # -- what lives

    def _living(self) -> LiveNetwork:
        live = _live.get(self)
        if live is None:
            if self._rest is None:
                raise UsageError(
                    f"The network of this {type(self).__name__} has stopped. Make a new model."
                )
            live = _live[self] = LiveNetwork(self._rest)
            self._rest = None
            weakref.finalize(self, live.stop).atexit = False
        return live

    def _gather(self) -> None:
        heard = self._living().heard()
        now = versions.steps(self)
        self.messages += [(now, *each) for each in heard.messages]
        self.outputs += heard.outputs
        self.dead_letters += heard.dead_letters
        self.failures += heard.failures

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what lives; in its place the network as it rests."""
        state = dict(self.__dict__)
        live = _live.get(self)
        if live is not None:
            state["_rest"] = live.rest()
        return state


# Functions of the module: reporters are pickled with the model.


def _sent(model: NetworkModel) -> int:
    return model.statistics().sent


def _handled(model: NetworkModel) -> int:
    return model.statistics().delivered


def _queued(model: NetworkModel) -> int:
    return model.statistics().queued


def _dead(model: NetworkModel) -> int:
    return model.statistics().dead


def _path(agent: NodeAgent) -> str:
    return agent.path


def _delivered(agent: NodeAgent) -> int:
    return agent.statistics.delivered
