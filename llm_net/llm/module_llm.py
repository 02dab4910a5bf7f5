"""`ModuleLLM`: the one handle behind which every language model is asked.

Model tower, floor 3. Builds requests, picks the model that answers them, repairs answers of the
wrong shape. What is heavy (LiteLLM, the embedded engine) is imported when it is first asked, not
here.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import SecretStr
from pydantic_core import core_schema

from llm_net.context import AUTHOR
from llm_net.errors import UsageError
from llm_net.llm import checks
from llm_net.llm.answers import conversation, parse
from llm_net.llm.assembly import AnyModel, Assembly
from llm_net.llm.budget import Budget
from llm_net.llm.cassette import Cassette
from llm_net.llm.endpoint import Limits
from llm_net.llm.model import ChatDict, Chunk, Completion, Request, ResponseFormat, ToolChoice
from llm_net.llm.scripted import Replies, ScriptedModel
from llm_net.llm.streams import astreamed, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from os import PathLike

    from pydantic import GetCoreSchemaHandler

    from llm_net.llm.model import Model

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
        limits: How the endpoint may be used: calls at once, requests and tokens a minute, retries,
            a circuit breaker. Handles with the same endpoint and limits share them.
        fallbacks: Models that are asked, in this order, if this one fails for good.
        max_batch: Let calls that are made together go out together, so many at most; None for
            that only where the model works in batches (`hf/…`).
        flush_interval: Seconds that such a call waits for others.
        share_identical: Whether equal calls that are under way together share one answer.
        cassette: Where answers are recorded, and played again; a path records once.
        budget: What the calls of this handle may cost, besides the budgets of who calls.
        params: Further parameters of every call, such as `top_p`.

    Raises:
        UsageError: If an argument can never work.
    """

    def __init__(
        self,
        llm_model: AnyModel,
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
        limits: Limits | None = None,
        fallbacks: Sequence[AnyModel] = (),
        max_batch: int | None = None,
        flush_interval: float = 0.01,
        share_identical: bool = False,
        cassette: Cassette | str | PathLike[str] | None = None,
        budget: Budget | None = None,
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
        for each in fallbacks:
            checks.model_name(each)
        self._api_key = None if api_key is None else SecretStr(api_key)
        self._repair = repair
        self._max_concurrency = max_concurrency
        if budget is not None and not isinstance(budget, Budget):
            raise UsageError(
                f"budget={budget!r} is no budget. Give one, such as Budget(calls=100, usd=0.5)."
            )
        if cassette is not None and not isinstance(cassette, Cassette):
            cassette = Cassette(cassette)
        limits = limits or Limits(retries=num_retries)
        self._assembly = Assembly(
            model=llm_model,
            api_base=api_base,
            replies=replies,
            limits=limits,
            fallbacks=tuple(fallbacks),
            max_batch=max_batch,
            flush_interval=flush_interval,
            share_identical=share_identical,
            cassette=cassette,
            budget=budget,
        )
        self._build()

    @property
    def llm_model(self) -> str:
        """The model's name, as it was given."""
        return self._assembly.name

    @property
    def api_base(self) -> str | None:
        """Where the provider is reached; None for its own address."""
        return self._assembly.api_base

    @property
    def budget(self) -> Budget | None:
        """What its calls may cost, besides the budgets of who calls; None if nobody said."""
        return self._assembly.budget

    @property
    def model(self) -> Model:
        """Who answers in the end."""
        return self._inner

    @property
    def calls(self) -> list[Request]:
        """What a scripted model was asked so far, in order.

        Raises:
            UsageError: If the model is not scripted.
        """
        if isinstance(self._inner, ScriptedModel):
            return self._inner.calls
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
        request = self._request(
            prompt=prompt,
            tool_schema=tool_schema,
            tool_choice=tool_choice,
            response_format=response_format,
            system_prompt=system_prompt,
            messages=messages,
            place=place,
            params=params,
        )
        flow = conversation(request, repair=self._repair)
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
        request = self._request(
            prompt=prompt,
            tool_schema=tool_schema,
            tool_choice=tool_choice,
            response_format=response_format,
            system_prompt=system_prompt,
            messages=messages,
            place=place,
            params=params,
        )
        if request.response_format is None:
            start = time.perf_counter()
            return _timed(await self._model.acomplete(request), start)
        flow = conversation(request, repair=self._repair)
        completion: Any = None  # a generator's first send must be None
        while True:
            try:
                request = flow.send(completion)
            except StopIteration as done:
                return cast("Completion", done.value)
            start = time.perf_counter()
            completion = _timed(await self._model.acomplete(request), start)

    def stream(
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
    ) -> Iterator[Chunk]:
        """Ask the model, and take its answer piece by piece as it is written.

        The last piece has the whole `completion`. A model that cannot stream gives one piece. An
        answer that does not fit `response_format` is not asked for again. To leave early ends the
        call. Arguments and errors are those of `generate`.
        """
        request = self._request(
            prompt=prompt,
            tool_schema=tool_schema,
            tool_choice=tool_choice,
            response_format=response_format,
            system_prompt=system_prompt,
            messages=messages,
            place=place,
            params=params,
        )
        start = time.perf_counter()
        for chunk in streamed(self._model, request):
            yield _whole(chunk, request, start)

    async def astream(
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
    ) -> AsyncIterator[Chunk]:
        """As `stream`, without blocking the event loop."""
        request = self._request(
            prompt=prompt,
            tool_schema=tool_schema,
            tool_choice=tool_choice,
            response_format=response_format,
            system_prompt=system_prompt,
            messages=messages,
            place=place,
            params=params,
        )
        start = time.perf_counter()
        async for chunk in astreamed(self._model, request):
            yield _whole(chunk, request, start)

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
            here = contextvars.copy_context  # who asks, and who pays
            asks = [partial(self.generate, prompt, **words) for prompt in prompts]
            futures = [pool.submit(here().run, ask) for ask in asks]
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

    def _request(
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
    ) -> Request:
        """What is asked, whole and checked."""
        system = self.system_prompt if system_prompt is None else system_prompt
        tools = checks.tools(tool_schema)
        author = AUTHOR.get()
        return Request(
            messages=checks.messages(system, messages, prompt),
            tools=tools,
            tool_choice=checks.tool_choice(tool_choice, tools) if tools else None,
            response_format=checks.response_format(response_format),
            params={**self._params, **checks.params(params)},
            place=place or ("" if author is None else author.place),
        )

    def _build(self) -> None:
        key = None if self._api_key is None else self._api_key.get_secret_value()
        self._inner = self._assembly.inner(key)
        self._model = self._assembly.build(self._inner, key)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        # No key leaves the process in a pickle; locks and connections could not.
        return {k: v for k, v in self.__dict__.items() if k not in {"_api_key", "_inner", "_model"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._api_key = None
        self._build()

    def __repr__(self) -> str:
        base = f", api_base={self.api_base!r}" if self.api_base else ""
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
    if completion.latency:  # a recorded one
        return completion
    return replace(completion, latency=time.perf_counter() - start)


def _whole(chunk: Chunk, request: Request, start: float) -> Chunk:
    """The last piece with what `generate` would have added to its completion."""
    completion = chunk.completion
    if completion is None:
        return chunk
    if request.response_format is not None:
        completion = parse(completion, request.response_format)
    return replace(chunk, completion=_timed(completion, start))
