"""Two agents and an edge; the model is scripted, so this runs offline and always the same."""

from llm_net import GenAgent, GenNetwork, Message, ModuleLLM


class Poet(GenAgent):
    llm: ModuleLLM

    async def astep(self, message: Message) -> None:
        line = await self.llm.agenerate(f"One line about {message.body}.")
        self.emit("line", line.text)


class Critic(GenAgent):
    def line(self, message: Message) -> None:
        self.emit("review", f"{len(message.body.split())} words, and I like them.")


def main() -> None:
    llm = ModuleLLM("scripted", replies=["Salt forgets the river."])
    desk = GenNetwork(
        name="desk",
        agents=[Poet(llm=llm), Critic()],
        edges=[("poet", "line", "critic")],
        entry="poet",
        expose=["review"],
    )
    for message in desk.stream("the sea"):
        print(f"{message.sender or 'you'} {message.method}: {message.body}")
