"""`MindAgent`: an agent with a model, tools, a memory and a way of reasoning.

Floor 5. The only place where actors meet minds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from llm_net.agent import GenAgent
from llm_net.errors import AnswerError, UsageError
from llm_net.llm.answers import find_json
from llm_net.llm.model import Completion
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.memory import Memory
from llm_net.memory.short_long import STLTMemory
from llm_net.message import Message
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.needs import Act, Ask, Need, adrive
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from llm_net.tools.manager import ToolManager

__all__ = ["MindAgent", "Thought", "ToolUse"]

M = TypeVar("M", bound=Message)


class Thought(Message):
    """What an agent thought, in the body: a step of its reasoning, addressed to itself."""


class ToolUse(Message):
    """A tool that an agent called; a step of its reasoning, addressed to itself.

    The body is the tool's answer.

    Attributes:
        tool: Its name.
        arguments: What it was called with.
        failed: Whether it refused or raised.
    """

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    failed: bool = False


class MindAgent(GenAgent):
    """An agent that thinks: it plans an answer to each message, with tools and a memory.

    A message to `step` is remembered, planned for and carried out; the reply is what the plan says
    in the end. Every thought and every tool used on the way is a message of the agent to itself
    (`Thought`, `ToolUse`): it is streamed, recorded and counted like any other, and emitted as
    `thought` or `tool_use` for whoever listens.

    ```python
    from llm_net import MindAgent, ModuleLLM, tool

    @tool
    def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

    llm = ModuleLLM("scripted", replies=["I greet.", "Good morning."])
    clerk = MindAgent(name="clerk", llm=llm, tools=[add], system_prompt="You are a clerk.")
    ```

    Other handlers are written as for any agent; `await self.think(…)` makes and carries out a plan,
    `await self.ask_model(Propose, …)` lets the model fill in a typed message.

    Attributes:
        llm: The model; anything that `ModuleLLM` takes.
        reasoning: How it plans; a class or an instance, of which it takes a copy.
        tools: The tools it may call: functions, tools, or a `ToolManager`.
        memory: What it keeps; its own, no other agent's.
        system_prompt: Who it is.
        step_prompt: What it is asked where no prompt is given.
        steps: How often it has thought.
    """

    acts_while_planning: ClassVar[bool] = True
    """Outside of Mesa all tools run in the agent's own turn, while it reasons."""

    llm: ModuleLLM = Field(exclude=True, repr=False)
    reasoning: Reasoning = Field(default_factory=CoTReasoning, exclude=True, repr=False)
    tools: Any = Field(default=(), exclude=True, repr=False)
    memory: Memory = Field(default_factory=STLTMemory, repr=False)
    system_prompt: str = ""
    step_prompt: str | None = None
    steps: int = 0

    _tool_manager: ToolManager = PrivateAttr()

    @field_validator("llm", mode="before")
    @classmethod
    def _any_model(cls, value: Any) -> Any:
        return value if isinstance(value, ModuleLLM) else ModuleLLM(value)

    @field_validator("reasoning", mode="before")
    @classmethod
    def _own_reasoning(cls, value: Any) -> Any:
        made: Any = value() if isinstance(value, type) else value
        if not isinstance(made, Reasoning):
            return made
        return copy.deepcopy(made, {id(made.agent): None})  # not whose it is now

    @field_validator("memory", mode="before")
    @classmethod
    def _own_memory(cls, value: Any) -> Any:
        made: Any = value() if isinstance(value, type) else value
        return made

    def model_post_init(self, context: Any, /) -> None:
        """Take hold of tools and memory."""
        super().model_post_init(context)
        given = self.tools
        self._tool_manager = given if isinstance(given, ToolManager) else ToolManager(given)
        owner = self.memory.agent
        if owner is not None and owner is not self:
            raise UsageError(
                f"The memory given to {self.name!r} is the memory of {owner!r:.60}. "
                "Give each agent one of its own."
            )

    @property
    def tool_manager(self) -> ToolManager:
        """The tools it may call."""
        return self._tool_manager

    @property
    def memory_step(self) -> int:
        """The step under which memories are kept."""
        return self.steps

    def generate_obs(self) -> Observation:
        """What it sees when it plans: the fields that its own class has added."""
        own = set(type(self).model_fields) - set(MindAgent.model_fields)
        return Observation(self.steps, {name: getattr(self, name) for name in sorted(own)})

    # -- handlers

    async def astep(self, message: Message) -> Any:
        """Plan an answer to a message, carry the plan out, and say what it says in the end."""
        self.remember_message(message)
        plan = await self.think(message.body)
        return _last_word(plan) or None

    def thought(self, message: Thought) -> None:
        """Let those hear who listen."""
        self.emit("thought", message)

    def tool_use(self, message: ToolUse) -> None:
        """Let those hear who listen."""
        self.emit("tool_use", message)

    # -- words for handlers

    def remember_message(self, message: Message) -> None:
        """Keep a message in memory, with its sender."""
        sender = "" if message.sender is None else message.sender.path
        self._bind()
        self.memory.add_to_memory("message", {"message": message.body, "sender": sender})

    async def think(
        self,
        prompt: str | None = None,
        *,
        ttl: int = 1,
        selected_tools: Sequence[str] | None = None,
        tool_calls: str | None = "auto",
    ) -> Plan:
        """Make a plan and carry it out.

        Args:
            prompt: What to do; None for `step_prompt`.
            ttl: For how many calls of `think` the plan is to live.
            selected_tools: The tools it may use, by name: None for all, `[]` for none.
            tool_calls: `auto`, `none`, `required`, or None for the provider's default.

        Returns:
            The plan; its actions have been carried out.

        Raises:
            ValueError: If there is neither a prompt nor a `step_prompt`.
            ModelError: If the model could not be asked.
        """
        self._bind()
        self.steps += 1
        await self.memory.aprocess_step(pre_step=True)
        obs = self.generate_obs()
        reasoning = self.reasoning
        asked = reasoning.prompted(prompt)
        if reasoning.has_flow:
            flow = reasoning.planned(asked, obs, ttl, selected_tools, tool_calls)
            plan = await adrive(flow, self, self._shown)
        else:
            plan = await reasoning.aplan(asked, obs, ttl, selected_tools, tool_calls)
        for action in plan.actions:
            await self._act(action)
        await self.memory.aprocess_step()
        return plan

    async def ask_model(self, kind: type[M], prompt: str, **params: Any) -> M:
        """Let the model write a message of this type.

        Args:
            kind: The class; its `init_fn` is what the model is asked to call.
            prompt: What the message is to be about.
            **params: As for `ModuleLLM.generate`.

        Raises:
            AnswerError: If what the model writes fits the class not even at the second try.
            ModelError: If the model could not be asked.
        """
        function: Mapping[str, Any] = kind.init_fn
        words: dict[str, Any] = {"tool_choice": function["name"], **params}
        words.setdefault("system_prompt", self.system_prompt or None)
        chat: list[Any] = [{"role": "user", "content": prompt}]
        complaint = ""
        for _ in range(2):
            completion = await self.llm.agenerate(messages=chat, tool_schema=[function], **words)
            try:
                return _filled(kind, completion)
            except (ValidationError, ValueError) as error:
                complaint = str(error)
            told = f"That is no {function['name']}: {complaint} Write it again."
            chat += [
                {"role": "assistant", "content": completion.text or _arguments(completion)},
                {"role": "user", "content": told},
            ]
        raise AnswerError(
            f"{self.llm.llm_model!r} was asked twice by {self.path!r}, and wrote no "
            f"{kind.__name__}: {complaint} Ask in other words, or take a model that does it better."
        )

    # -- inside

    def _bind(self) -> None:
        """Copies and restarts leave reasoning and memory with nobody."""
        self.reasoning.agent = self
        self.memory.agent = self

    async def _act(self, action: Action) -> None:
        result = await self._tool_manager.arun(
            action.name, action.arguments, agent=self, id=action.id
        )
        self.reasoning.took(action, failed=result.error is not None, value=result.value)
        await self.memory.aadd_to_memory("action", result.to_dict())
        self._show(_tool_use(action, result))

    async def _shown(self, need: Need, answer: Any) -> None:
        """Show a step of the reasoning."""
        if isinstance(need, Ask) and str(answer):
            self._show(Thought(str(answer)))
        elif isinstance(need, Act):
            await self.memory.aadd_to_memory("action", answer.to_dict())
            self._show(_tool_use(need.action, answer))

    def _show(self, step: Message) -> None:
        if self._node.mailbox is not None:
            self.emit(step.method, step)  # a full mailbox would let it wait for itself
        elif self._node.is_live:
            self.send(step.model_copy(update={"receiver": self._node.address}))


def _tool_use(action: Action, result: Any) -> ToolUse:
    return ToolUse(
        result.text,
        tool=action.name,
        arguments=action.arguments,
        failed=result.error is not None,
    )


def _last_word(plan: Plan) -> str:
    """What a plan says in the end: the model's last words, else its thoughts."""
    return str(getattr(plan.llm_plan, "content", None) or plan.thoughts)


def _arguments(completion: Completion) -> str:
    return "\n".join(call.arguments for call in completion.tool_calls)


def _filled(kind: type[M], completion: Completion) -> M:
    """The message that a model wrote, as a call or as JSON in its text.

    Raises:
        ValueError: If it wrote none that fits.
    """
    for call in completion.tool_calls:
        return kind.from_call(call.arguments)
    for value in find_json(completion.text):
        if isinstance(value, dict):
            return kind.from_call(cast("dict[str, Any]", value))
    raise ValueError("It holds no call and no JSON object.")
