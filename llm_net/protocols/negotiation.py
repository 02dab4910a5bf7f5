"""One negotiation of a contract net: a state machine on the engine's thread.

Floor 5. What it hears are replies, failures and deadlines; what it says goes out in the initiator's
name. `contract_net` has the words for users.

    calling --(all answered | deadline)--> awarding --> executing --> done
                                              |             |  failure or silence: next best
                                              |             +--> failed, expired
                                              +--> no_bids, rejected_all

Invariants: at most one award is live; every proposer hears exactly one of accept and reject.

Source: FIPA SC00029H, Contract Net Interaction Protocol.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from llm_net.cell import Cell
from llm_net.diagram import sequence_diagram
from llm_net.errors import LLMNetError, ProtocolError
from llm_net.message import Message
from llm_net.node import Node
from llm_net.protocols.performatives import (
    AcceptProposal,
    Cancel,
    Cfp,
    Failure,
    Inform,
    NotUnderstood,
    Propose,
    Refuse,
    RejectProposal,
)
from llm_net.running import Conversation
from llm_net.runtime import Runtime
from llm_net.scope import Scope
from llm_net.speech import accept
from llm_net.svg import sequence_svg

__all__ = ["Award", "Negotiation", "Outcome", "Status"]

Status = Literal["done", "no_bids", "rejected_all", "failed", "expired", "cancelled"]
Award = Callable[[Sequence[Propose]], Propose | None]


@dataclass(frozen=True)
class Outcome:
    """How a contract net ended.

    Attributes:
        status: `done`; `no_bids` (nobody proposed in time); `rejected_all` (the award chose none);
            `failed` (everybody who was awarded it failed); `expired` (the last of them did not
            answer in time); `cancelled`.
        winner: The name of the participant that did the work, if it is done.
        result: What the winner informed us of.
        refused: By name, who did not bid, and what it said: a refusal, an answer that was not
            understood, a failure; None if it said nothing.
        late: By name, bids that came after the deadline.
        failed: By name, who was awarded the task and failed: its failure or error; None if it was
            silent.
        proposals: By name, the bids that came in time.
    """

    status: Status
    winner: str | None
    result: Message | None
    refused: Mapping[str, Message | LLMNetError | None]
    late: Mapping[str, Propose]
    failed: Mapping[str, Message | LLMNetError | None]
    proposals: Mapping[str, Propose]
    conversation: Conversation = field(repr=False)

    def to_mermaid(self) -> str:
        """The sequence diagram of what happened, in Mermaid."""
        return sequence_diagram(self.conversation)

    def to_svg(self) -> str:
        """The sequence diagram of what happened, as an SVG picture that a browser opens."""
        return sequence_svg(self.conversation)


class _Answers:
    """Hears what is answered to one message, as the reply or later as a message of its own.

    Nothing that is said in a negotiation becomes a dead letter.
    """

    expired = False
    light = False
    wants = True

    def __init__(
        self, heard: Callable[[Message], None], broke: Callable[[LLMNetError], None]
    ) -> None:
        self._heard = heard
        self._broke = broke
        self.targets: tuple[Cell, ...] = ()

    def expect(self, count: int) -> None:
        """Several entries of one participant speak with one voice."""

    def take(self, reply: Message) -> None:
        """Hear a reply."""
        self._heard(reply)

    def ended(self, error: LLMNetError | None) -> None:
        """A turn is over; without an error, the answer may still come by itself."""
        if error is not None:
            self._broke(error)


class _Branch:
    """The negotiation with one participant."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.proposal: Propose | None = None
        self.settled = False
        """Whether the participant has answered the call."""
        self.awarded = False
        self.finished = False
        """Whether nothing it says can change the outcome any more."""
        self.stuck = False
        """Whether it is in a turn that cannot be ended, so that it hears nothing more."""
        self.asked: list[_Answers] = []


class Negotiation:
    """One run of the protocol; all but `cancel` by the owner of the engine."""

    def __init__(
        self,
        call: Cfp,
        initiator: Node,
        participants: Sequence[Node],
        *,
        limits: Mapping[str, float],
        award: Award,
    ) -> None:
        self._call = call
        self._initiator = initiator
        names = Counter(node.name for node in participants)
        self._branches = [
            _Branch(node, node.name if names[node.name] == 1 else node.path)
            for node in participants
        ]
        self._limits = limits
        self._award = award
        self._phase: Literal["new", "calling", "executing", "over"] = "new"
        self._bids: list[_Branch] = []
        self._winner: _Branch | None = None
        self._status: Status = "cancelled"
        self._result: Message | None = None
        self._refused: dict[str, Message | LLMNetError | None] = {}
        self._late: dict[str, Propose] = {}
        self._failed: dict[str, Message | LLMNetError | None] = {}
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ids: list[str] = []
        self._scope: Scope | None = None
        self._runtime: Runtime | None = None
        self._cell: Cell | None = None

    def outcome(self) -> Outcome:
        """How it ended.

        Raises:
            ProtocolError: If the award went wrong.
        """
        if self._error is not None:
            raise self._error
        winner = self._winner
        record = () if self._scope is None else self._scope.record or ()
        return Outcome(
            status=self._status,
            winner=winner.name if winner is not None and self._status == "done" else None,
            result=self._result,
            refused=self._refused,
            late=self._late,
            failed=self._failed,
            proposals={b.name: b.proposal for b in self._branches if b.proposal is not None},
            conversation=tuple(record),
        )

    # -- what it hears

    def launch(self, scope: Scope, runtime: Runtime) -> None:
        """Call for proposals."""
        self._scope = scope
        self._runtime = runtime
        self._cell = self._initiator.cell
        scope.open += 1  # the run is not quiet before the outcome
        self._phase = "calling"
        self._limit("deadline", self._evaluate)
        for branch in self._branches:
            call = type(self._call)(**_content(self._call))
            heard = partial(self._heard_answer, branch)
            self._ask(branch, call, _Answers(heard, partial(self._broke_answer, branch)))
        self._look()

    def cancel(self) -> None:
        """Stop it where it stands; any thread."""
        if self._runtime is not None:
            self._runtime.engine.run(partial(self._conclude, "cancelled"))

    def leave(self) -> None:
        """Whoever waited waits no more: leave nothing behind, wherever it stands; any thread."""
        if self._runtime is not None:
            self._runtime.engine.run(self._leave)

    def _leave(self) -> None:
        self._stop_timer()
        self._forget()
        if self._phase in ("calling", "executing"):
            assert self._scope is not None
            self._phase = "over"
            self._scope.close()

    def _heard_answer(self, branch: _Branch, reply: Message) -> None:
        """A participant answered the call."""
        if self._phase == "calling":
            self._heard_bid(branch, reply)
        elif isinstance(reply, Propose) and not branch.settled:
            branch.settled = True
            self._late[branch.name] = reply
            self._refused.pop(branch.name, None)
            self._tell(branch, RejectProposal.reply(reply, "late"))
        elif isinstance(reply, Propose):
            self._tell(branch, NotUnderstood.reply(reply, "you have answered already"))
        elif isinstance(reply, (Refuse, Failure)) and branch.awarded:
            self._work_failed(branch, reply)  # it withdrew what it had been awarded
        elif isinstance(reply, (Refuse, Failure)) and branch in self._bids:
            # It withdrew while another was at work: it is no next best any more.
            self._bids.remove(branch)
            self._refused[branch.name] = reply

    def _broke_answer(self, branch: _Branch, error: LLMNetError) -> None:
        """A participant failed or stopped in the turn in which it was to answer the call."""
        if self._phase == "calling" and not branch.settled:
            branch.settled = True
            self._refused[branch.name] = error
            self._look()

    def _heard_bid(self, branch: _Branch, reply: Message) -> None:
        if isinstance(reply, Propose) and not branch.settled:
            branch.settled = True
            branch.proposal = reply
            self._bids.append(branch)
        elif isinstance(reply, Propose):
            self._tell(branch, NotUnderstood.reply(reply, "you have answered already"))
        elif isinstance(reply, Refuse) and branch in self._bids:
            self._bids.remove(branch)  # withdrawn before the award
            branch.proposal = None
            self._refused[branch.name] = reply
        elif not branch.settled:
            branch.settled = True
            self._refused[branch.name] = reply
            if not isinstance(reply, (Refuse, NotUnderstood, Failure)):
                said = "a call for proposals is answered by propose or refuse"
                self._tell(branch, NotUnderstood.reply(reply, said))
        self._look()

    def _heard_of_work(self, branch: _Branch, reply: Message) -> None:
        if branch.finished:
            return
        if isinstance(reply, (Failure, Refuse, NotUnderstood)):
            self._work_failed(branch, reply)
        elif isinstance(reply, Inform) or reply.method == "response":
            branch.finished = True
            self._result = reply if isinstance(reply, Inform) else _inform(reply)
            self._conclude("done")
        else:
            said = "an accepted proposal is answered by inform or failure"
            self._tell(branch, NotUnderstood.reply(reply, said))
            self._work_failed(branch, reply)

    # -- what it decides

    def _look(self) -> None:
        if self._phase == "calling" and all(branch.settled for branch in self._branches):
            self._evaluate()

    def _evaluate(self) -> None:
        """The call is over: all have answered, or the deadline has passed."""
        if self._phase != "calling":
            return
        self._phase = "executing"
        for branch in self._branches:
            if not branch.settled:
                self._refused[branch.name] = None
        if not self._bids:
            self._conclude("no_bids")
        else:
            self._award_best("rejected_all")

    def _award_best(self, otherwise: Status) -> None:
        """Award the task to the best of the bids that are left."""
        by_id = {id(b.proposal): b for b in self._bids}
        chosen = None
        if self._bids:
            try:
                chosen = self._award([b.proposal for b in self._bids if b.proposal is not None])
            except Exception as error:  # noqa: BLE001 - the user's rule; its caller gets it
                msg = f"The award rule raised {type(error).__name__}: {error}"
                self._error = ProtocolError(msg)
                self._error.__cause__ = error
        if chosen is not None and id(chosen) not in by_id:
            self._error = ProtocolError(
                f"The award rule gave {chosen!r:.120}, which is none of the proposals. "
                "Return one of them, or None."
            )
        if self._error is not None or chosen is None:
            self._conclude(otherwise)
            return
        branch = by_id[id(chosen)]
        self._bids.remove(branch)
        branch.awarded = True
        self._winner = branch
        self._limit("result_deadline", partial(self._silent, branch))
        heard = partial(self._heard_of_work, branch)
        answers = _Answers(heard, partial(self._work_failed, branch))
        self._ask(branch, AcceptProposal.reply(chosen), answers)

    def _silent(self, branch: _Branch) -> None:
        if branch.finished or self._phase != "executing":
            return
        branch.finished = True
        self._failed[branch.name] = None
        self._let_go(branch)
        self._award_best("expired")

    def _work_failed(self, branch: _Branch, why: Message | LLMNetError) -> None:
        if branch.finished or self._phase != "executing":
            return
        branch.finished = True
        self._failed[branch.name] = why
        self._award_best("failed")

    def _conclude(self, status: Status) -> None:
        if self._phase == "over":
            return
        scope = self._scope
        assert scope is not None
        self._phase = "over"
        self._status = status
        self._stop_timer()
        if status == "cancelled":
            if self._winner is not None and not self._winner.finished:
                self._let_go(self._winner)
            self._let_late_go()
        for branch in self._bids:
            assert branch.proposal is not None
            self._tell(branch, RejectProposal.reply(branch.proposal))
        self._bids.clear()
        changed = scope.changed

        def quiet() -> None:
            if scope.quiet:
                self._stop_timer()
                self._forget()
            if changed is not None:
                changed()

        scope.changed = quiet
        # The run goes on until it is quiet, so that late bids are heard and last words handled.
        self._limit("grace", self._let_late_go)
        scope.close()

    def _let_late_go(self) -> None:
        """Wait no longer for those who have not answered the call."""
        assert self._scope is not None
        self._forget()
        self._limit("result_deadline", partial(self._scope.end, "result_deadline"))
        for branch in self._branches:
            if not branch.settled and not branch.awarded:
                self._forsake(branch)

    def _forget(self) -> None:
        if self._cell is not None:
            for asked in self._ids:
                self._cell.conversations.pop(asked, None)

    # -- what it says

    def _ask(self, branch: _Branch, message: Message, answers: _Answers) -> None:
        """Say something that is to be answered, as the reply or by a later message."""
        branch.asked.append(answers)
        if self._cell is not None:
            self._cell.conversations[message.id] = answers
            self._ids.append(message.id)
        self._say(branch, message, answers)

    def _say(self, branch: _Branch, message: Message, answers: _Answers) -> None:
        """Say something in the initiator's name, in this negotiation's run."""
        assert self._runtime is not None
        accept(
            branch.node,
            message.model_copy(update={"role": self._initiator.agent.role}),
            None,
            sender=self._cell,
            sink=answers,
            scope=self._scope,
            runtime=self._runtime,
        )

    def _tell(self, branch: _Branch, message: Message) -> None:
        """Say something that a participant hears only if it has a handler for it."""
        if branch.node.is_live and branch.node.handles(message.method):
            self._say(branch, message, _Answers(_no_matter, _no_matter))

    def _let_go(self, branch: _Branch) -> None:
        """Cancel the work of one who was awarded the task."""
        self._forsake(branch)
        assert branch.proposal is not None
        if not branch.stuck:
            self._tell(branch, Cancel.reply(branch.proposal))

    def _forsake(self, branch: _Branch) -> None:
        """End its open turn; one on a thread cannot be ended, and then it hears nothing more."""
        for answers in branch.asked:
            for cell in answers.targets:
                for turn in cell.forsake(answers):
                    cell.detach(turn)
                    branch.stuck = True

    # -- time

    def _limit(self, name: str, call: Callable[[], None]) -> None:
        self._stop_timer()
        assert self._runtime is not None
        engine = self._runtime.engine
        engine.held += 1

        def fire() -> None:
            self._stop_timer()
            call()

        self._timer = engine.call_later(self._limits[name], fire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            assert self._runtime is not None
            self._timer.cancel()
            self._timer = None
            self._runtime.engine.held -= 1


def _no_matter(_answer: object) -> None:
    """What is answered to last words changes nothing."""


def _content(call: Cfp) -> dict[str, Any]:
    """The fields of a call, without those that each copy has of its own."""
    own = {"id", "created_at", "sender", "receiver", "reply_to_id"}
    return {name: getattr(call, name) for name in type(call).model_fields if name not in own}


def _inform(reply: Message) -> Inform:
    """A bare text as what it means in answer to an award."""
    return Inform(
        reply.body,
        role=reply.role,
        sender=reply.sender,
        receiver=reply.receiver,
        reply_to=reply.reply_to_id,
    )
