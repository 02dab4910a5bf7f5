"""Networks of language-model agents: messages, agents that are actors, networks that are agents."""

from llm_net.address import Address
from llm_net.agent import GenAgent
from llm_net.deterministic import Deterministic
from llm_net.errors import (
    AgentStopped,
    AnswerError,
    AskCycle,
    AskTimeout,
    DeliveryError,
    HandlerError,
    LLMNetError,
    MailboxFull,
    ModelCallError,
    ModelError,
    ModelSetupError,
    NoHandler,
    NonDeterminismError,
    ProtocolError,
    UnknownAgent,
    UnscriptedCall,
    UsageError,
)
from llm_net.event_loop_actor import EventLoopActor
from llm_net.instrument import Instrument
from llm_net.llm.model import Completion, Request, ToolCall, Usage
from llm_net.llm.module_llm import ModuleLLM
from llm_net.mailbox import DeadLetter, Envelope, Mailbox
from llm_net.message import Message, Method, Role
from llm_net.network import GenNetwork
from llm_net.ref import AgentRef
from llm_net.run import Run
from llm_net.runtime import Runtime
from llm_net.scope import Statistics
from llm_net.supervision import Supervision
from llm_net.watching import Terminated

__all__ = [
    "Address",
    "AgentRef",
    "AgentStopped",
    "AnswerError",
    "AskCycle",
    "AskTimeout",
    "Completion",
    "DeadLetter",
    "DeliveryError",
    "Deterministic",
    "Envelope",
    "EventLoopActor",
    "GenAgent",
    "GenNetwork",
    "HandlerError",
    "Instrument",
    "LLMNetError",
    "Mailbox",
    "MailboxFull",
    "Message",
    "Method",
    "ModelCallError",
    "ModelError",
    "ModelSetupError",
    "ModuleLLM",
    "NoHandler",
    "NonDeterminismError",
    "ProtocolError",
    "Request",
    "Role",
    "Run",
    "Runtime",
    "Statistics",
    "Supervision",
    "Terminated",
    "ToolCall",
    "UnknownAgent",
    "UnscriptedCall",
    "Usage",
    "UsageError",
]
