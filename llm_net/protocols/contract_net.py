"""The contract net: call for proposals, award to one, have the work done.

Floor 5. The words for users; `negotiation` is the state machine behind them.

Source: Smith, "The Contract Net Protocol", IEEE Transactions on Computers, 1980; FIPA SC00029H.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llm_net.address import Address
from llm_net.agent import GenAgent
from llm_net.errors import UsageError, is_number
from llm_net.network import GenNetwork
from llm_net.node import Node
from llm_net.protocols.negotiation import Award, Negotiation, Outcome
from llm_net.protocols.performatives import Cfp, Propose
from llm_net.ref import AgentRef
from llm_net.run import RunStream
from llm_net.running import Running
from llm_net.runtime import Runtime
from llm_net.scope import Limits, Scope

__all__ = ["ContractNet", "Negotiating", "lowest_price"]

Participant = GenAgent | AgentRef | Address | str


def lowest_price(proposals: Sequence[Propose]) -> Propose | None:
    """The proposal with the lowest price; of equals the one that came first."""
    return min(proposals, key=lambda proposal: proposal.price, default=None)


class ContractNet:
    """Awards a task to one of several agents by their bids, and has it done.

    Participants answer in their handlers `cfp` (with `Propose`, `Refuse`; anything else is not
    understood), `accept_proposal` (with `Inform`, a text, or `Failure`), and, if they care,
    `reject_proposal`, `not_understood` and `cancel`.

    ```python
    from llm_net import GenAgent, GenNetwork
    from llm_net.protocols import AcceptProposal, Cfp, ContractNet, Propose

    class Painter(GenAgent):
        blocking = False
        rate: float

        def cfp(self, message: Cfp) -> Propose:
            return Propose.reply(message, price=self.rate * 8)

        def accept_proposal(self, message: AcceptProposal) -> str:
            return "The shed is blue."

    town = GenNetwork(
        name="town",
        agents=[
            GenAgent(name="manager"),
            Painter(name="ann", rate=40),
            Painter(name="bob", rate=35),
        ],
    )
    outcome = ContractNet(town, initiator="manager").run("Paint the shed.")
    print(outcome.status, outcome.winner, outcome.result.body)
    ```
    """

    def __init__(
        self,
        network: GenNetwork,
        *,
        initiator: Participant,
        participants: Iterable[Participant] | None = None,
        deadline: float = 60.0,
        result_deadline: float = 300.0,
        award: Award = lowest_price,
        grace: float | None = None,
    ) -> None:
        """Set the rules; nothing is started.

        Args:
            network: Where the agents are. It is started for a run if it is not live, and then
                stopped after it.
            initiator: Whose name the messages go out in; it needs no handlers.
            participants: Who is called. Default: the members with a `cfp` handler, networks whose
                entry has one among them.
            deadline: Seconds for the bids, on the runtime's clock.
            result_deadline: Seconds for the one who is awarded the task, then for the next best.
            award: Which of the proposals that came in time, in the order they came, gets the task;
                None for none of them.
            grace: Seconds, after all else is over, to hear late bids from those who are still at
                their answer; then they are let go. Default: `deadline` once more.

        Raises:
            UnknownAgent: If a name is nobody's.
            UsageError: If a deadline is no time, or a participant takes part twice.
        """
        limits = {
            "deadline": deadline,
            "result_deadline": result_deadline,
            "grace": deadline if grace is None else grace,
        }
        for name, seconds in limits.items():
            if not is_number(seconds) or not seconds > 0:
                msg = f"{name}={seconds!r} leaves no time to answer: give seconds above 0."
                raise UsageError(msg)
        if not callable(award):
            msg = f"award={award!r:.80} is no rule: give a function of the proposals."
            raise UsageError(msg)
        self._network = network
        place = network.__node__()
        self._initiator = _inside(place, initiator)
        if participants is None:
            nodes = [node for node in place.inner() if node.handles("cfp")]
            self._participants = [node for node in nodes if node is not self._initiator]
        else:
            self._participants = [_inside(place, participant) for participant in participants]
            if len(set(map(id, self._participants))) < len(self._participants):
                msg = "A participant is named twice: each may bid once."
                raise UsageError(msg)
        self._limits = limits
        self._award = award
        self._open: set[Negotiation] = set()

    def run(self, task: Cfp | str, *, runtime: Runtime | None = None) -> Outcome:
        """Negotiate a task, and wait for the outcome.

        Args:
            task: What is to be done: a text, or a call with fields of its own.
            runtime: Where a network that is not live runs; default as for `network.run`.

        Raises:
            UsageError: If the network is live elsewhere, or cannot be started.
            ProtocolError: If `award` raised, or gave what was not proposed.
        """
        negotiation, running = self._prepare(task, runtime)
        try:
            running.run()
        finally:
            running.finish()
        return negotiation.outcome()

    async def arun(self, task: Cfp | str, *, runtime: Runtime | None = None) -> Outcome:
        """As `run`, on the running event loop."""
        negotiation, running = self._prepare(task, runtime)
        try:
            await running.arun()
        finally:
            await running.afinish()
        return negotiation.outcome()

    def stream(
        self, task: Cfp | str, *, runtime: Runtime | None = None, progress: bool = False
    ) -> Negotiating:
        """As `run`, but iterate over every message when it is sent; `.outcome` then has the end."""
        negotiation, running = self._prepare(task, runtime)
        return Negotiating(running, negotiation, progress=progress)

    def cancel(self) -> None:
        """End the open negotiations; from any thread. Whoever is at work hears `Cancel`."""
        for negotiation in list(self._open):
            negotiation.cancel()

    def _prepare(self, task: Cfp | str, runtime: Runtime | None) -> tuple[Negotiation, Running]:
        call = task if isinstance(task, Cfp) else Cfp(task)
        negotiation = Negotiation(
            call,
            self._initiator,
            self._participants,
            limits=self._limits,
            award=self._award,
        )

        def launch(scope: Scope, home: Runtime) -> None:
            self._open.add(negotiation)
            negotiation.launch(scope, home)

        def leave() -> None:
            self._open.discard(negotiation)
            negotiation.leave()

        running = Running(self._network.__node__(), runtime, Limits(), launch, leave)
        return negotiation, running


class Negotiating(RunStream):
    """Iterates over the messages of a contract net as they are sent."""

    def __init__(
        self, running: Running, negotiation: Negotiation, *, progress: bool = False
    ) -> None:
        super().__init__(running, progress=progress)
        self._negotiation = negotiation

    @property
    def outcome(self) -> Outcome:
        """How it ended.

        Raises:
            UsageError: If it is not over yet, or was closed before the end.
            ProtocolError: If `award` raised, or gave what was not proposed.
        """
        if self.run.ended == "closed":
            raise UsageError("The stream was closed before the negotiation had an outcome.")
        return self._negotiation.outcome()


def _inside(network: Node, participant: Participant) -> Node:
    """The node of an agent of the network, named in any way."""
    try:
        address = Address.of(participant)
    except ValueError as error:
        msg = f"{participant!r:.80} is nobody to hold a contract net with: {error}."
        raise UsageError(msg) from None
    node = network.inside(address)
    if node is network or network not in node.upwards():
        msg = (
            f"{address.path!r} is not an agent of the network {network.path!r}, in which the "
            "contract net is held. Add it, or name another."
        )
        raise UsageError(msg)
    return node
