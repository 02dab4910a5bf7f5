"""`ModuleLLM`: the one handle behind which every language model is asked.

Model tower, floor 3. Builds requests, picks the model that answers them, repairs answers of the
wrong shape. What is heavy (LiteLLM, the embedded engine) is imported when it is first asked, not
here.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import SecretStr
from pydantic_core import core_schema

from llm_net.errors import UsageError
from llm_net.llm import checks
from llm_net.llm.answers import conversation
from llm_net.llm.lite import LiteModel
from llm_net.llm.model import ChatDict, Completion, Model, Request, ResponseFormat, ToolChoice
from llm_net.llm.scripted import FunctionModel, ModelFunction, Replies, ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from pydantic import GetCoreSchemaHandler

__all__ = ["ModuleLLM"]


class ModuleLLM:
    """A handle on a language model.

    Copies of it, deep ones too, are the handle itself; a pickle of it lacks the API key. It may be
    used by any number of threads and event loops at once.

    ```python
    from llm_net import ModuleLLM

    llm = ModuleLLM("scripted", replies=["Good morning."])
    print(llm.generate("Greet me."))
    ```

    Args:
        llm_model: `provider/model` for whatever LiteLLM reaches; `local/smollm2-135m` for the
            embedded model, `local/` and a path for another GGUF file; `scripted`; a function
            `(request) -> str | dict | Completion`, sync or async; or a `Model`.
        api_base: Where the provider is reached; None for its own address.
        system_prompt: Put before every conversation, unless a call gives another.
        api_key: None to take the provider's environment variable. That one is sent only to the
            provider's own host or to the base that the environment names, never to `api_base`.
        temperature: As the provider takes it, like `seed` and `max_tokens`; None for its default.
        seed: Makes the answer repeatable, where the provider knows how.
        max_tokens: The longest answer.
        timeout: Seconds for one call of the model; None is for ever.
        replies: The script of `scripted`.
        repair: How often an answer that does not fit `response_format` is asked for again.
        num_retries: How often a call that failed for a passing reason is made again.
        max_concurrency: How many prompts of a batch are under way at once.
        params: Further parameters of every call, such as `top_p`.

    Raises:
        UsageError: If an argument can never work.
    """

    def __init__(
        self,
        llm_model: str | ModelFunction | Model,
        api_base: str | None = None,
        system_prompt: str | None = None,
        *,
        api_key: str | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        timeout: float | None = None,
        replies: Replies | None = None,
        repair: int = 1,
        num_retries: int = 0,
        max_concurrency: int = 32,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        checks.model_name(llm_model)
        checks.script(llm_model, replies)
        checks.address(llm_model, api_base, api_key)
        checks.counts(repair=repair, num_retries=num_retries)
        checks.counts(max_concurrency=max_concurrency, at_least=1)
        self._params = checks.params(
            {
                **(params or {}),
                "temperature": temperature,
                "seed": seed,
                "max_tokens": max_tokens,
                "timeout": timeout,
            }
        )
        self.system_prompt = checks.text("system_prompt", system_prompt)
        self._llm_model = llm_model
        self._api_base = api_base
        self._api_key = None if api_key is None else SecretStr(api_key)
        self._replies = replies
        self._repair = repair
        self._num_retries = num_retries
        self._max_concurrency = max_concurrency
        self._model = self._build()

    @property
    def llm_model(self) -> str:
        """The model's name, as it was given."""
        if isinstance(self._llm_model, str):
            return self._llm_model
        name = getattr(self._llm_model, "name", None) or getattr(self._llm_model, "__name__", None)
        return name or type(self._llm_model).__name__

    @property
    def api_base(self) -> str | None:
        """Where the provider is reached; None for its own address."""
        return self._api_base

    @property
    def model(self) -> Model:
        """Who answers."""
        return self._model

    @property
    def calls(self) -> list[Request]:
        """What a scripted model was asked so far, in order.

        Raises:
            UsageError: If the model is not scripted.
        """
        if isinstance(self._model, ScriptedModel):
            return self._model.calls
        raise UsageError(
            f"{self.llm_model!r} does not record its calls; only the scripted model does. "
            'Use ModuleLLM("scripted", replies=[…]).'
        )

    def generate(
        self,
        prompt: str | Sequence[str] | None = None,
        tool_schema: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: ToolChoice | None = "auto",
        response_format: ResponseFormat | None = None,
        system_prompt: str | None = None,
        *,
        messages: Sequence[ChatDict] | None = None,
        place: str = "",
        **params: Any,
    ) -> Completion:
        """Ask the model, and wait for its answer. Works beside a running event loop too (Jupyter).

        Args:
            prompt: What to ask; several texts are several user messages.
            tool_schema: The tools it may call: chat-completion dicts, or their `function` halves.
            tool_choice: `auto`, `none`, `required`, or the name of one tool.
            response_format: The shape of the answer: a pydantic class, or a JSON schema.
            system_prompt: Instead of the handle's own; `""` for none.
            messages: Whole chat-completion dicts, between the system prompt and the prompt.
            place: Who calls: seen by scripts, records and errors, never sent to a provider.
            **params: Instead of the handle's own: temperature, max_tokens, timeout, stop…

        Returns:
            The completion.

        Raises:
            UsageError: If the arguments can never work.
            ModelSetupError: If a key, a model file or an extra is missing.
            ModelCallError: If the provider refused, failed, or took too long.
            AnswerError: If the answer does not fit `response_format`, repairs included.
            UnscriptedCall: If the script holds no reply.
        """
        flow = self._flow(
            prompt=prompt,
            tool_schema=tool_schema,
            tool_choice=tool_choice,
            response_format=response_format,
            system_prompt=system_prompt,
            messages=messages,
            place=place,
            params=params,
        )
        completion: Any = None  # a generator's first send must be None
        while True:
            try:
                request = flow.send(completion)
            except StopIteration as done:
                return cast("Completion", done.value)
            start = time.perf_counter()
            completion = _timed(self._model.complete(request), start)

    async def agenerate(
        self,
        prompt: str | Sequence[str] | None = None,
        tool_schema: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: ToolChoice | None = "auto",
        response_format: ResponseFormat | None = None,
        system_prompt: str | None = None,
        *,
        messages: Sequence[ChatDict] | None = None,
        place: str = "",
        **params: Any,
    ) -> Completion:
        """Ask the model without blocking the event loop; otherwise as `generate`."""
        flow = self._flow(
            prompt=prompt,
            tool_schema=tool_schema,
            tool_choice=tool_choice,
            response_format=response_format,
            system_prompt=system_prompt,
            messages=messages,
            place=place,
            params=params,
        )
        completion: Any = None  # a generator's first send must be None
        while True:
            try:
                request = flow.send(completion)
            except StopIteration as done:
                return cast("Completion", done.value)
            start = time.perf_counter()
            completion = _timed(await self._model.acomplete(request), start)

    def generate_batch(
        self, prompts: Sequence[str], params: Mapping[str, Any] | None = None
    ) -> list[Completion]:
        """Ask several things at once.

        Args:
            prompts: One conversation each.
            params: Keyword arguments of `generate`, for all of them.

        Returns:
            The completions, in the order of the prompts.

        Raises:
            LLMNetError: What `generate` raises, for the first prompt in order that failed.
        """
        checks.prompts(prompts)
        if not prompts:
            return []
        words = dict(params or {})
        with ThreadPoolExecutor(min(len(prompts), self._max_concurrency)) as pool:
            futures = [pool.submit(self.generate, prompt, **words) for prompt in prompts]
            try:
                return [future.result() for future in futures]
            except BaseException:
                # What has not begun need not be paid for.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    async def agenerate_batch(
        self, prompts: Sequence[str], params: Mapping[str, Any] | None = None
    ) -> list[Completion]:
        """Ask several things at once, without blocking the event loop; see `generate_batch`."""
        checks.prompts(prompts)
        words = dict(params or {})
        room = asyncio.Semaphore(self._max_concurrency)

        async def ask(prompt: str) -> Completion:
            async with room:
                return await self.agenerate(prompt, **words)

        tasks = [asyncio.ensure_future(ask(prompt)) for prompt in prompts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _flow(
        self,
        *,
        prompt: str | Sequence[str] | None,
        tool_schema: Sequence[Mapping[str, Any]] | None,
        tool_choice: ToolChoice | None,
        response_format: ResponseFormat | None,
        system_prompt: str | None,
        messages: Sequence[ChatDict] | None,
        place: str,
        params: Mapping[str, Any],
    ) -> Generator[Request, Completion, Completion]:
        """The conversation that `generate` and `agenerate` drive, each in its way."""
        system = self.system_prompt if system_prompt is None else system_prompt
        tools = checks.tools(tool_schema)
        request = Request(
            messages=checks.messages(system, messages, prompt),
            tools=tools,
            tool_choice=checks.tool_choice(tool_choice, tools) if tools else None,
            response_format=checks.response_format(response_format),
            params={**self._params, **checks.params(params)},
            place=place,
        )
        return conversation(request, repair=self._repair)

    def _build(self) -> Model:
        model = self._llm_model
        if isinstance(model, Model):
            return model
        if not isinstance(model, str):
            return FunctionModel(model)
        if model == "scripted":
            assert self._replies is not None, "the constructor made sure of it"
            return ScriptedModel(self._replies)
        if model.startswith("local/"):
            # Here, or `python -m llm_net.llm.weights` would find itself imported already.
            from llm_net.llm.local import LocalModel  # noqa: PLC0415

            return LocalModel(model)
        key = None if self._api_key is None else self._api_key.get_secret_value()
        return LiteModel(model, api_base=self._api_base, api_key=key, num_retries=self._num_retries)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        # No key leaves the process in a pickle; locks and connections could not.
        return {k: v for k, v in self.__dict__.items() if k not in {"_api_key", "_model"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._api_key = None
        self._model = self._build()

    def __repr__(self) -> str:
        base = f", api_base={self._api_base!r}" if self._api_base else ""
        return f"{type(self).__name__}({self.llm_model!r}{base})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """A field of this type holds the handle itself; in JSON it is the model's name."""
        return core_schema.is_instance_schema(
            cls,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _name_of, when_used="json"
            ),
        )


def _name_of(llm: ModuleLLM) -> str:
    return llm.llm_model


def _timed(completion: Completion, start: float) -> Completion:
    return replace(completion, latency=time.perf_counter() - start)
