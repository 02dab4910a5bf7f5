"""ReWOO: plan all calls at once, with places for what they will give; then do one after the other.

Mind, floor 6. Source: Xu et al., "ReWOO: Decoupling Reasoning from Observations for Efficient
Augmented Language Models", 2023.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

from llm_net.reasoning.evidence import Planner, planned_calls, references, settled
from llm_net.reasoning.needs import Act, Ask, Flow, Need, Remember, Task
from llm_net.reasoning.plan import Action, Observation
from llm_net.reasoning.prompts import background, section
from llm_net.reasoning.react import runs_now
from llm_net.reasoning.reading import Answer, ask
from llm_net.reasoning.strategy import Reasoning, finished

__all__ = ["ReWOOReasoning"]

_INSTRUCTIONS = """
Plan everything now; you will not be asked again before it is done. Say shortly why, and call all
the tools you will need, in order, in this one answer. Where a call needs what an earlier one gives,
write #E1 for what the first gives, #E2 for the second, and so on. If you cannot call tools, write
one line for each call: #E1 = tool[{"parameter": value}]
"""

_SOLVER = """
Solve the task with the evidence that was gathered for it. Give the answer, and nothing else.
"""


class ReWOOReasoning(Reasoning):
    """Plans all calls in one model call, and hands out one a step without any other.

    Tools that read run while the plan is made, each once; if there is nothing else to do, one more
    model call solves the task from what they gave. All other calls are handed out one a step, so
    the plan lives at least as many steps.
    """

    one_by_one: ClassVar[bool] = True

    def __init__(self, agent: Any = None) -> None:
        super().__init__(agent)
        self._evidence: dict[int, Any] = {}
        self._numbers: dict[str, int] = {}

    def get_rewoo_system_prompt(self, obs: Observation) -> str:
        """The system prompt: persona, memories, observation, and how to plan."""
        return "\n".join(
            (
                "You are an agent that acts on its own.\n",
                background(self.agent, obs),
                section("Instructions", _INSTRUCTIONS),
            )
        )

    def flow(self, task: Task) -> Flow:
        """Plan, gather what can be read, and solve if nothing else is left to do."""
        self._evidence, self._numbers = {}, {}
        planner = Planner(self.agent.tool_manager, _parameters(task))
        question = Ask(
            prompt=task.prompt,
            system_prompt=self.get_rewoo_system_prompt(task.obs),
            tools=task.tools,
            tool_choice=task.tool_calls,
        )
        answer = yield from ask(question, task, planner, words=_in_words)
        self._numbers = {each.id: n for n, each in enumerate(answer.actions, 1)}
        lines = [answer.thoughts] if answer.thoughts else []
        later = yield from self._gathered(answer.actions, lines)
        if self._evidence and not later:
            solved = yield from ask(self._solver(task, lines), task, planner)
            answer = Answer(thoughts=solved.thoughts, fault=solved.fault)
            lines.append(solved.thoughts)
        thoughts = "\n".join(lines)
        if thoughts:
            yield Remember("plan", {"content": thoughts})
        answer = Answer(thoughts=answer.thoughts, actions=tuple(later), fault=answer.fault)
        return finished(task, thoughts, answer)

    def took(self, action: Action, *, failed: bool, value: Any = None) -> None:
        """An action has been carried out: what it gave is evidence for those that are left."""
        super().took(action, failed=failed, value=value)
        if not failed and action.id in self._numbers:
            self._evidence[self._numbers[action.id]] = value
            self._left = [settled(each, self._evidence) for each in self._left]

    def _gathered(
        self, actions: tuple[Action, ...], lines: list[str]
    ) -> Generator[Need, Any, list[Action]]:
        """Run the calls that may run now, in order; gives those that are left."""
        later: list[Action] = []
        for number, planned in enumerate(actions, 1):
            action = settled(planned, self._evidence)
            waits = references(action.arguments) & set(range(1, len(actions) + 1))
            if waits or not runs_now(action, self.agent):
                later.append(action)
                continue
            result = yield Act(action)
            # A call that failed is evidence, too: whoever needs it reads why.
            self._evidence[number] = result.text if result.error else result.value
            lines += [f"#E{number} = {action}", f"Evidence: {result.text}"]
        return [settled(each, self._evidence) for each in later]

    def _solver(self, task: Task, lines: list[str]) -> Ask:
        persona = section("Persona", str(getattr(self.agent, "system_prompt", None) or ""))
        told = "\n".join(
            [section("Task", task.prompt), section("Plan and evidence", "\n".join(lines))]
        )
        return Ask(prompt=told, system_prompt=f"{persona}{_SOLVER}")


def _in_words(text: str, task: Task) -> list[Any]:
    """The calls that a model wrote down instead of calling."""
    return list(planned_calls(text, _parameters(task)))


def _parameters(task: Task) -> dict[str, list[str]]:
    """The tools that may be planned, with the names of their parameters."""
    functions = [tool["function"] for tool in task.tools]
    return {each["name"]: list(each["parameters"].get("properties", {})) for each in functions}
