from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.episodic import EpisodicMemory
from llm_net.memory.long_term import LongTermMemory
from llm_net.memory.memory import Memory
from llm_net.memory.short_long import STLTMemory
from llm_net.memory.short_term import ShortTermMemory
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.react import ReActOutput, ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from llm_net.reasoning.strategy import Reasoning
from mesa_bridge.checkpoints import resume, run_model
from mesa_bridge.exchange import Exchange
from mesa_bridge.hook import (
    disable_automatic_parallel_stepping,
    enable_automatic_parallel_stepping,
)
from mesa_bridge.letters import MailStatistics, Spoken
from mesa_bridge.llm_agent import LLMAgent
from mesa_bridge.mailroom import (
    aask,
    ask,
    dead_letters,
    deliver,
    mail_statistics,
    post,
    reply,
)
from mesa_bridge.network_agent import NetworkAgent
from mesa_bridge.network_model import NetworkModel, NodeAgent
from mesa_bridge.observing import observe
from mesa_bridge.paradigm import (
    Attachment,
    ClassBasedParadigm,
    FunctionBasedParadigm,
    Mind,
    Paradigm,
)
from mesa_bridge.progress import Progress
from mesa_bridge.recording import SimulationRecorder, record_model
from mesa_bridge.report import StepReport
from mesa_bridge.spaces import register_space
from mesa_bridge.spatial_tools import move_one_step, speak_to, teleport_to_location
from mesa_bridge.stepping import (
    ParallelStepping,
    last_report,
    model_step_async,
    step_agents_multithreaded,
    step_agents_parallel,
    step_agents_parallel_sync,
)
from mesa_bridge.toolset import ToolManager, tool

__all__ = [
    "Action",
    "Attachment",
    "ClassBasedParadigm",
    "CoTReasoning",
    "EpisodicMemory",
    "Exchange",
    "FunctionBasedParadigm",
    "LLMAgent",
    "LongTermMemory",
    "MailStatistics",
    "Memory",
    "MemoryEntry",
    "Mind",
    "ModuleLLM",
    "NetworkAgent",
    "NetworkModel",
    "NodeAgent",
    "Observation",
    "Paradigm",
    "ParallelStepping",
    "Plan",
    "Progress",
    "ReActOutput",
    "ReActReasoning",
    "ReWOOReasoning",
    "Reasoning",
    "STLTMemory",
    "ShortTermMemory",
    "SimulationRecorder",
    "Spoken",
    "StepReport",
    "ToolManager",
    "aask",
    "ask",
    "dead_letters",
    "deliver",
    "disable_automatic_parallel_stepping",
    "enable_automatic_parallel_stepping",
    "last_report",
    "mail_statistics",
    "model_step_async",
    "move_one_step",
    "observe",
    "post",
    "record_model",
    "register_space",
    "reply",
    "resume",
    "run_model",
    "speak_to",
    "step_agents_multithreaded",
    "step_agents_parallel",
    "step_agents_parallel_sync",
    "teleport_to_location",
    "tool",
]
