"""ReAct: thought, action, observation, and again, until something is to be done.

Mind, floor 6. Source: Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models",
ICLR 2023.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from llm_net.errors import UsageError
from llm_net.llm.model import ChatDict
from llm_net.reasoning.needs import Act, Ask, Flow, Remember, Task
from llm_net.reasoning.plan import Action, Observation
from llm_net.reasoning.prompts import background, section
from llm_net.reasoning.reading import Answer, ask
from llm_net.reasoning.strategy import Reasoning, finished

__all__ = ["ReActOutput", "ReActReasoning", "runs_now"]

_INSTRUCTIONS = """
Work in turns of thought, action and observation. In each turn say in a sentence or two what you
think, then call a tool; what it gives is your next observation. When you know enough, do what is to
be done, or answer without calling a tool.
"""


class ReActOutput(BaseModel):
    """One turn in words: what was thought, and what is to be done."""

    model_config = ConfigDict(extra="forbid")

    reasoning: str
    action: str


class ReActReasoning(Reasoning):
    """Thinks, looks with tools that read, thinks again; ends with actions or with an answer.

    Args:
        agent: Who plans.
        max_steps: Model calls at most, repairs not counted.

    Raises:
        UsageError: If `max_steps` is no number from 1 on.
    """

    def __init__(self, agent: Any = None, max_steps: int = 8) -> None:
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise UsageError(
                f"max_steps={max_steps!r} is no number of steps. Give a whole number from 1 on."
            )
        super().__init__(agent)
        self.max_steps = max_steps

    def get_react_system_prompt(self) -> str:
        """The system prompt: who it is, and how to work."""
        persona = section("Persona", str(getattr(self.agent, "system_prompt", None) or ""))
        how = section("Instructions", _INSTRUCTIONS)
        return f"You are an agent that acts on its own.\n\n{persona}\n{how}"

    def get_react_prompt(self, obs: Observation) -> list[str]:
        """What it knows: its memories and the observation, as one user message each."""
        told = background(_Faceless(self.agent), obs)
        memory = getattr(self.agent, "memory", None)
        history = getattr(memory, "get_communication_history", None)
        talked = section("Messages", str(history() or "")) if callable(history) else ""
        return [part for part in (told, talked) if part]

    def flow(self, task: Task) -> Flow:
        """Turn after turn, until there is something to do, or nothing more to look at."""
        manager = self.agent.tool_manager
        told = [*self.get_react_prompt(task.obs), task.prompt]
        chat: list[ChatDict] = [{"role": "user", "content": text} for text in told]
        lines: list[str] = []
        repairs = 1
        choice = task.tool_calls
        answer = Answer(thoughts="")
        for _ in range(self.max_steps):
            question = Ask(
                system_prompt=self.get_react_system_prompt(),
                messages=tuple(chat),
                tools=task.tools,
                tool_choice=choice,
            )
            answer = yield from ask(question, task, manager, repairs=repairs)
            repairs -= answer.repairs
            lines += [f"Thought: {answer.thoughts}"] if answer.thoughts else []
            now = [each for each in answer.actions if runs_now(each, self.agent)]
            later = tuple(each for each in answer.actions if each not in now)
            chat += answer.chat
            for action in now:
                result = yield Act(action)
                chat.append(result.to_chat())
                lines += [f"Action: {action}", f"Observation: {result.text}"]
            answer = Answer(thoughts=answer.thoughts, actions=later, fault=answer.fault)
            if later or not now:
                break
            choice = "auto" if choice == "required" else choice  # it has called one
        else:
            answer = Answer(
                thoughts="", fault=f"It was still looking after {self.max_steps} turns."
            )
        thoughts = "\n".join(lines)
        if thoughts:
            yield Remember("plan", {"content": thoughts})
        return finished(task, thoughts, answer)


class _Faceless:
    """An agent without its persona, which stands in the system prompt already."""

    def __init__(self, agent: Any) -> None:
        self.memory = getattr(agent, "memory", None)
        self.system_prompt = None


def runs_now(action: Action, agent: Any) -> bool:
    """Whether a tool runs while the plan is made: it only reads, or its agent is free to act."""
    free = bool(getattr(agent, "acts_while_planning", False))
    return free or bool(agent.tool_manager.reads(action.name))
