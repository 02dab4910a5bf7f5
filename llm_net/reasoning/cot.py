"""Chain of thought: think in four steps, then act; one model call.

Mind, floor 5. Source: Wei et al., "Chain-of-Thought Prompting Elicits Reasoning in Large Language
Models", NeurIPS 2022.
"""

from __future__ import annotations

from typing import Any

from llm_net.errors import UsageError
from llm_net.reasoning.needs import Ask, Flow, Remember, Task
from llm_net.reasoning.plan import Observation
from llm_net.reasoning.prompts import background, section
from llm_net.reasoning.reading import ask
from llm_net.reasoning.strategy import Reasoning, finished

__all__ = ["CoTReasoning"]

_TWO = 2
_INSTRUCTIONS = """
Think step by step before you act, and write it down in this form:
Thought 1: what the observation tells you
Thought 2: what your memory adds to it
Thought 3: what else you could do, and what might go wrong
Thought 4: what you decide, and why
Action: what you do now
Stay with the facts given here.
"""


class CoTReasoning(Reasoning):
    """Thinks in four steps and decides, in one model call.

    Args:
        agent: Who plans.
        passes: 1 to think and call tools in one answer; 2 to think first (tools are listed, not
            called; the thoughts are remembered as `plan`), and let a second call carry that out.

    Raises:
        UsageError: If `passes` is neither.
    """

    def __init__(self, agent: Any = None, *, passes: int = 1) -> None:
        if passes not in {1, 2}:
            raise UsageError(
                f"passes={passes!r} cannot be: a chain of thought takes one model call or two. "
                "Give passes=1 or passes=2."
            )
        super().__init__(agent)
        self.passes = passes

    def get_cot_system_prompt(self, obs: Observation) -> str:
        """The system prompt: persona, memories, observation, and how to think."""
        return "\n".join(
            (
                "You are an agent that acts on its own.\n",
                background(self.agent, obs),
                section("Instructions", _INSTRUCTIONS),
            )
        )

    def flow(self, task: Task) -> Flow:
        """Ask once, or think and then execute."""
        system = self.get_cot_system_prompt(task.obs)
        manager = self.agent.tool_manager
        first = Ask(
            prompt=task.prompt,
            system_prompt=system,
            tools=task.tools,
            tool_choice="none" if self.passes == _TWO else task.tool_calls,
        )
        answer = yield from ask(first, task, manager)
        if answer.thoughts:
            yield Remember("plan", {"content": answer.thoughts})
        thoughts = answer.thoughts
        if self.passes == _TWO and answer.fault is None and task.may_act:
            answer = yield from self.executed(thoughts, task)
        return finished(task, thoughts, answer)
