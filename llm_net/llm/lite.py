"""Every provider that LiteLLM reaches. The only file that imports LiteLLM, and not before a call.

Model tower, floor 2. LiteLLM takes seconds to import and looks for prices on the network when it
does; it prints, and it retries. All that is off here. Its exceptions may show the key, and carry
the request with all its headers, so they never leave this file.
"""

from __future__ import annotations

import asyncio
import difflib
import functools
import logging
import os
import random
from typing import TYPE_CHECKING, Any

from llm_net.errors import ModelCallError, ModelError, ModelSetupError, UsageError
from llm_net.llm import keys
from llm_net.llm.answers import json_schema
from llm_net.llm.model import ChatDict, Completion, Request, ResponseFormat, ToolCall, Usage
from llm_net.llm.waiting import in_background, within

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LiteModel"]

# Servers on one's own machine: no key is needed, and LiteLLM knows the usual port.
_KEYLESS = frozenset(
    {"docker_model_runner", "hosted_vllm", "llamafile", "lm_studio", "ollama", "ollama_chat"}
)
_EITHER_KEY = frozenset({"gemini"})
_PASSING = frozenset({408, 409, 425, 429})
_LONGEST_TEXT = 500
_LONGEST_WAIT_S = 60.0


class LiteModel:
    """A model somewhere else, asked through LiteLLM.

    Args:
        name: `provider/model`.
        api_base: Where it is; None for the provider's own address.
        api_key: None to take it from the environment; see `llm_net.llm.keys`.
        num_retries: How often a call that failed for a passing reason is made again.
    """

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        num_retries: int = 0,
    ) -> None:
        self.name = name
        self._api_base = api_base
        self._api_key = api_key
        self._num_retries = num_retries

    def complete(self, request: Request) -> Completion:
        """Ask the provider, and wait.

        Raises:
            UsageError: If LiteLLM knows no such provider.
            ModelSetupError: If the provider's key is missing.
            ModelCallError: If the provider refused, failed, or took too long.
        """
        return in_background(self._ask(request)).result()

    async def acomplete(self, request: Request) -> Completion:
        """Ask the provider, without blocking the event loop; raises as `complete` does."""
        return await asyncio.wrap_future(in_background(self._ask(request)))

    async def _ask(self, request: Request) -> Completion:
        answer = self._ask_patiently(request)
        return await within(answer, timeout=request.timeout, who=self.name)

    async def _ask_patiently(self, request: Request) -> Completion:
        for attempt in range(self._num_retries + 1):
            if attempt:
                await asyncio.sleep(failure.wait_s(attempt))
            answer = await self._attempt(request)
            if isinstance(answer, Completion):
                return answer
            failure = answer
            if not failure.passing:
                break
        raise failure.error from failure.cause
