"""The parts that prompts of all strategies are made of.

Mind, floor 4. What is the same for many agents and steps stands first where it can: providers and
the embedded engine read a known beginning from their cache.
"""

from __future__ import annotations

from typing import Any

from llm_net.reasoning.plan import Observation

__all__ = ["EXECUTOR", "background", "section"]

EXECUTOR = """You carry out what was decided. Read the decision, and call the tools that do exactly
that. If it says to do nothing, or no tool does it, call none."""


def section(title: str, text: str) -> str:
    """A part of a prompt; nothing if there is nothing in it."""
    return f"# {title}\n{text.strip()}\n" if text.strip() else ""


def background(agent: Any, obs: Observation) -> str:
    """Persona, long-term memory, short-term memory and observation, each under its title.

    Args:
        agent: Whose `system_prompt` and `memory`.
        obs: What it sees, and what memories are to be relevant to.
    """
    memory = getattr(agent, "memory", None)
    focus = getattr(memory, "focus", None)
    seen = str(obs)
    if focus is not None:
        focus(seen)
    parts = [
        section("Persona", str(getattr(agent, "system_prompt", None) or "")),
        section("Long-Term Memory", _said(memory, "format_long_term")),
        section("Short-Term Memory (Recent History)", _said(memory, "format_short_term")),
        section("Current Observation", seen),
    ]
    return "\n".join(part for part in parts if part)


def _said(memory: Any, word: str) -> str:
    say = getattr(memory, word, None)
    return str(say() or "") if callable(say) else ""
