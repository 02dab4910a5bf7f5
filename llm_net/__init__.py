"""Networks of language-model agents: messages, agents that are actors, networks that are agents."""

from llm_net.lazy import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "llm_net.address": "Address",
        "llm_net.agent": "GenAgent",
        "llm_net.deterministic": "Deterministic",
        "llm_net.errors": (
            "AgentStopped AnswerError AskCycle AskTimeout BudgetExceeded CassetteMiss "
            "CircuitOpen DeliveryError HandlerError LLMNetError LiveCallBlocked MailboxFull "
            "ModelCallError ModelError ModelSetupError NoHandler NonDeterminismError "
            "ProtocolError ToolArgumentsError ToolError UnknownAgent UnknownTool "
            "UnscriptedCall UsageError"
        ),
        "llm_net.event_loop_actor": "EventLoopActor",
        "llm_net.instrument": "Instrument",
        "llm_net.llm.batching": "BatchProcessor",
        "llm_net.llm.breaker": "Breaker",
        "llm_net.llm.budget": "Budget",
        "llm_net.llm.cassette": "Cassette",
        "llm_net.llm.endpoint": "Limits",
        "llm_net.llm.estimate": "Estimate",
        "llm_net.llm.fallback": "Fallback",
        "llm_net.llm.ledger": "Ledger",
        "llm_net.llm.model": "Chunk Completion Request ToolCall Usage",
        "llm_net.llm.module_llm": "ModuleLLM",
        "llm_net.mailbox": "DeadLetter Envelope Mailbox",
        "llm_net.memory.entry": "MemoryEntry",
        "llm_net.memory.episodic": "EpisodicMemory",
        "llm_net.memory.long_term": "LongTermMemory",
        "llm_net.memory.memory": "Memory",
        "llm_net.memory.short_long": "STLTMemory",
        "llm_net.memory.short_term": "ShortTermMemory",
        "llm_net.message": "Message Method Role",
        "llm_net.mind_agent": "MindAgent Thought ToolUse",
        "llm_net.network": "GenNetwork",
        "llm_net.reasoning.cot": "CoTReasoning",
        "llm_net.reasoning.plan": "Action Observation Plan",
        "llm_net.reasoning.react": "ReActReasoning",
        "llm_net.reasoning.rewoo": "ReWOOReasoning",
        "llm_net.reasoning.strategy": "Reasoning",
        "llm_net.ref": "AgentRef",
        "llm_net.run": "Run",
        "llm_net.runtime": "Runtime",
        "llm_net.scope": "Statistics",
        "llm_net.supervision": "Supervision",
        "llm_net.tools.manager": "ToolManager",
        "llm_net.tools.mcp": "MCPTools",
        "llm_net.tools.result": "ToolResult",
        "llm_net.tools.tool": "Tool tool",
        "llm_net.watching": "Terminated",
    },
)
