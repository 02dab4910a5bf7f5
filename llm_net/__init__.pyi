from llm_net.address import Address
from llm_net.agent import GenAgent
from llm_net.deterministic import Deterministic
from llm_net.errors import (
    AgentStopped,
    AnswerError,
    AskCycle,
    AskTimeout,
    BudgetExceeded,
    CassetteMiss,
    CircuitOpen,
    DeliveryError,
    HandlerError,
    LiveCallBlocked,
    LLMNetError,
    MailboxFull,
    ModelCallError,
    ModelError,
    ModelSetupError,
    NoHandler,
    NonDeterminismError,
    ProtocolError,
    ToolArgumentsError,
    ToolError,
    UnknownAgent,
    UnknownTool,
    UnscriptedCall,
    UsageError,
)
from llm_net.event_loop_actor import EventLoopActor
from llm_net.instrument import Instrument
from llm_net.llm.batching import BatchProcessor
from llm_net.llm.breaker import Breaker
from llm_net.llm.budget import Budget
from llm_net.llm.cassette import Cassette
from llm_net.llm.endpoint import Limits
from llm_net.llm.estimate import Estimate
from llm_net.llm.fallback import Fallback
from llm_net.llm.ledger import Ledger
from llm_net.llm.model import Chunk, Completion, Request, ToolCall, Usage
from llm_net.llm.module_llm import ModuleLLM
from llm_net.mailbox import DeadLetter, Envelope, Mailbox
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.episodic import EpisodicMemory
from llm_net.memory.long_term import LongTermMemory
from llm_net.memory.memory import Memory
from llm_net.memory.short_long import STLTMemory
from llm_net.memory.short_term import ShortTermMemory
from llm_net.message import Message, Method, Role
from llm_net.mind_agent import MindAgent, Thought, ToolUse
from llm_net.network import GenNetwork
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.react import ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from llm_net.reasoning.strategy import Reasoning
from llm_net.ref import AgentRef
from llm_net.run import Run
from llm_net.runtime import Runtime
from llm_net.scope import Statistics
from llm_net.supervision import Supervision
from llm_net.tools.manager import ToolManager
from llm_net.tools.mcp import MCPTools
from llm_net.tools.result import ToolResult
from llm_net.tools.tool import Tool, tool
from llm_net.watching import Terminated

__all__ = [
    "Action",
    "Address",
    "AgentRef",
    "AgentStopped",
    "AnswerError",
    "AskCycle",
    "AskTimeout",
    "BatchProcessor",
    "Breaker",
    "Budget",
    "BudgetExceeded",
    "Cassette",
    "CassetteMiss",
    "Chunk",
    "CircuitOpen",
    "CoTReasoning",
    "Completion",
    "DeadLetter",
    "DeliveryError",
    "Deterministic",
    "Envelope",
    "EpisodicMemory",
    "Estimate",
    "EventLoopActor",
    "Fallback",
    "GenAgent",
    "GenNetwork",
    "HandlerError",
    "Instrument",
    "LLMNetError",
    "Ledger",
    "Limits",
    "LiveCallBlocked",
    "LongTermMemory",
    "MCPTools",
    "Mailbox",
    "MailboxFull",
    "Memory",
    "MemoryEntry",
    "Message",
    "Method",
    "MindAgent",
    "ModelCallError",
    "ModelError",
    "ModelSetupError",
    "ModuleLLM",
    "NoHandler",
    "NonDeterminismError",
    "Observation",
    "Plan",
    "ProtocolError",
    "ReActReasoning",
    "ReWOOReasoning",
    "Reasoning",
    "Request",
    "Role",
    "Run",
    "Runtime",
    "STLTMemory",
    "ShortTermMemory",
    "Statistics",
    "Supervision",
    "Terminated",
    "Thought",
    "Tool",
    "ToolArgumentsError",
    "ToolCall",
    "ToolError",
    "ToolManager",
    "ToolResult",
    "ToolUse",
    "UnknownAgent",
    "UnknownTool",
    "UnscriptedCall",
    "Usage",
    "UsageError",
    "tool",
]
