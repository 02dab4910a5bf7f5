"""Agent networks as citizens of Mesa models: observations, plans, and stepping in parallel."""

from llm_net.lazy import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "llm_net.llm.module_llm": "ModuleLLM",
        "llm_net.memory.entry": "MemoryEntry",
        "llm_net.memory.episodic": "EpisodicMemory",
        "llm_net.memory.long_term": "LongTermMemory",
        "llm_net.memory.memory": "Memory",
        "llm_net.memory.short_long": "STLTMemory",
        "llm_net.memory.short_term": "ShortTermMemory",
        "llm_net.reasoning.cot": "CoTReasoning",
        "llm_net.reasoning.plan": "Action Observation Plan",
        "llm_net.reasoning.react": "ReActOutput ReActReasoning",
        "llm_net.reasoning.rewoo": "ReWOOReasoning",
        "llm_net.reasoning.strategy": "Reasoning",
        "mesa_bridge.checkpoints": "resume run_model",
        "mesa_bridge.exchange": "Exchange",
        "mesa_bridge.hook": (
            "disable_automatic_parallel_stepping enable_automatic_parallel_stepping"
        ),
        "mesa_bridge.letters": "MailStatistics Spoken",
        "mesa_bridge.llm_agent": "LLMAgent",
        "mesa_bridge.mailroom": "aask ask dead_letters deliver mail_statistics post reply",
        "mesa_bridge.network_agent": "NetworkAgent",
        "mesa_bridge.network_model": "NetworkModel NodeAgent",
        "mesa_bridge.observing": "observe",
        "mesa_bridge.paradigm": "Attachment ClassBasedParadigm FunctionBasedParadigm Mind Paradigm",
        "mesa_bridge.progress": "Progress",
        "mesa_bridge.recording": "SimulationRecorder record_model",
        "mesa_bridge.report": "StepReport",
        "mesa_bridge.spaces": "register_space",
        "mesa_bridge.spatial_tools": "move_one_step speak_to teleport_to_location",
        "mesa_bridge.stepping": (
            "ParallelStepping last_report model_step_async step_agents_multithreaded "
            "step_agents_parallel step_agents_parallel_sync"
        ),
        "mesa_bridge.toolset": "ToolManager tool",
    },
)
