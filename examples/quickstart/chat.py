"""One agent whose state is the chat so far: the thread that each message carries with it."""

import sys
from collections.abc import Iterator, Sequence

from llm_net import GenAgent, HandlerError, LLMNetError, Message, ModuleLLM, UsageError


class Assistant(GenAgent):
    """Answers with the whole conversation before it."""

    llm: ModuleLLM

    async def astep(self, message: Message) -> str:
        chat = [earlier.to_chat() for earlier in message.thread]
        completion = await self.llm.agenerate(messages=chat)
        return completion.text.strip()


def main(model: str, lines: Sequence[str]) -> int:
    """Chat on the terminal, or with the given lines; gives the exit status."""
    try:
        llm = ModuleLLM(model, system_prompt="You answer in one short sentence.", max_tokens=60)
    except UsageError as error:
        print(f"No model: {error}", file=sys.stderr)
        return 1
    answer: Message | None = None
    with Assistant(llm=llm).start() as assistant:
        for line in lines or _typed():
            said = (
                Message(line) if answer is None else answer.reply(line, method="step", role="user")
            )
            try:
                answer = assistant.ask(said)
            except HandlerError as error:
                if not isinstance(error.__cause__, LLMNetError):
                    raise
                print(f"No answer from {model}: {error.__cause__}", file=sys.stderr)
                return 1
            print(f"> {line}\n{answer.body if answer else ''}")
    return 0


def _typed() -> Iterator[str]:
    print("Type a line and press Enter; an empty line ends the chat.")
    while line := sys.stdin.readline().strip():
        yield line
