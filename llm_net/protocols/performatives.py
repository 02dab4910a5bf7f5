"""What is said in an interaction protocol, as classes of messages.

Floor 5. Knows messages only. Each wants the handler that bears its name in snake case.

Source: FIPA SC00037J, Communicative Act Library.
"""

from __future__ import annotations

from pydantic import Field

from llm_net.message import Message

__all__ = [
    "AcceptProposal",
    "Cancel",
    "Cfp",
    "Failure",
    "Inform",
    "NotUnderstood",
    "Propose",
    "Refuse",
    "RejectProposal",
]


class Cfp(Message):
    """Call for proposals: who would do this task, and for what?"""


class Propose(Message):
    """A bid: I would do it for this price."""

    price: float = Field(allow_inf_nan=False, description="What the work costs.")


class Refuse(Message):
    """I will not do it."""


class NotUnderstood(Message):
    """What you said means nothing here, at this point."""


class AcceptProposal(Message):
    """Do it, as you proposed."""


class RejectProposal(Message):
    """Thank you; somebody else does it, or nobody."""


class Inform(Message):
    """It is done; this is the result."""


class Failure(Message):
    """I tried, and could not."""


class Cancel(Message):
    """Stop; it is wanted no more."""
