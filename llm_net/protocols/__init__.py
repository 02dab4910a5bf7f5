"""Interaction protocols: how agents that know the rules come to an agreement."""

from llm_net.protocols.contract_net import ContractNet
from llm_net.protocols.negotiation import Outcome
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

__all__ = [
    "AcceptProposal",
    "Cancel",
    "Cfp",
    "ContractNet",
    "Failure",
    "Inform",
    "NotUnderstood",
    "Outcome",
    "Propose",
    "Refuse",
    "RejectProposal",
]
