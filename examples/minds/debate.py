"""A debate: a chair asks two debaters in turn, and each answers what the other has said."""

from llm_net import CoTReasoning, GenAgent, GenNetwork, Message, MindAgent, ModuleLLM

QUESTION = "Should every town have a night market?"


class Chair(GenAgent):
    """Asks both sides in turn, then says who spoke how often."""

    rounds: int = 2
    sides: tuple[str, str] = ("for", "against")

    async def astep(self, message: Message) -> str:
        said = message.body
        spoken = 0
        for _ in range(self.rounds):
            for side in self.sides:
                answer = await self.aask(side, Message(f"The chair asks you to answer: {said}"))
                said = " ".join((answer.body if answer else "").split())
                self.emit("said", Message(f"{side}: {said}", method="said"))
                spoken += 1
        return f"The debate is over after {spoken} speeches."


def network(llm: ModuleLLM) -> GenNetwork:
    """A hall with a chair and two debaters."""
    debaters = [
        MindAgent(
            name=side,
            llm=llm,
            reasoning=CoTReasoning(),
            system_prompt=f"You debate, and speak {side} the question, in one sentence.",
        )
        for side in ("for", "against")
    ]
    agents = [Chair(), *debaters]
    return GenNetwork(name="hall", agents=agents, entry="chair", expose=["said"])


def opening() -> Message:
    """The question of the evening."""
    return Message(QUESTION)
