"""The agents: contractors whose bids and work a language model writes, and a guild of such.

What correctness hangs on is code: hours and rates come from the agents' fields, the award from a
rule. A small model is asked only for what it can do, wording.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from llm_net import AnswerError, GenAgent, GenNetwork, Message, ModuleLLM
from llm_net.protocols import (
    AcceptProposal,
    Cfp,
    Failure,
    Inform,
    Propose,
    Refuse,
    RejectProposal,
)


class Bid(BaseModel):
    """The shape of a bid, which holds the model to it."""

    days: Annotated[int, Field(ge=1, le=30)]
    offer: Annotated[str, Field(max_length=80)]


class Contractor(GenAgent):
    """Bids for tasks, and does those it is awarded."""

    llm: ModuleLLM
    trade: str
    rate: float
    """Euros a day."""
    won: int = 0
    lost: int = 0

    async def acfp(self, message: Cfp) -> Propose | Refuse:
        try:
            bid = await self.ask_for_bid(message.body)
        except AnswerError as error:
            return Refuse.reply(message, f"I could not word a bid: {error}")
        price = round(self.rate * bid.days, 2)
        return Propose.reply(message, f"{bid.offer} ({bid.days} days)", price=price)

    async def aaccept_proposal(self, message: AcceptProposal) -> Inform | Failure:
        task = message.thread[0].body
        report = await self.llm.agenerate(
            f"You are {self.name}, a {self.trade}. You have just finished this job: {task} "
            "Tell your customer in one sentence what you did.",
            max_tokens=60,
            place=self.path,
        )
        text = " ".join(report.text.split())
        if not text:
            return Failure.reply(message, "I have no words for what I did.")
        self.won += 1
        return Inform.reply(message, text)

    def reject_proposal(self, message: RejectProposal) -> None:
        self.lost += 1

    async def ask_for_bid(self, task: str) -> Bid:
        answer = await self.llm.agenerate(
            f"You are {self.name}, a {self.trade}. A customer asks: {task} "
            "Offer to do it: how many days, and one friendly sentence.",
            response_format=Bid,
            max_tokens=160,
            place=self.path,
        )
        bid: Bid = answer.parsed
        return bid


class Planner(GenAgent):
    """Speaks for a guild: asks its workers what they need, and bids with the sum."""

    llm: ModuleLLM
    rate: float

    async def acfp(self, message: Cfp) -> Propose:
        days = 0
        for worker in self.workers():
            estimate = await self.aask(worker, Message(message.body, method="estimate"))
            days += int(estimate.body) if estimate is not None else 0
        return Propose.reply(message, f"Our guild does it in {days} days.", price=self.rate * days)

    async def aaccept_proposal(self, message: AcceptProposal) -> Inform:
        reports: list[str] = []
        for worker in self.workers():
            report = await self.aask(worker, Message(message.thread[0].body, method="work"))
            reports.append("" if report is None else report.body)
        return Inform.reply(message, " ".join(reports))

    def workers(self) -> list[GenAgent]:
        """The members of the own network that can work."""
        assert self.network is not None
        return self.network.find(method="work")


class Worker(GenAgent):
    """Does one part of a job."""

    llm: ModuleLLM
    part: str

    def estimate(self, message: Message) -> str:
        return str(1 + len(self.part) % 3)

    async def awork(self, message: Message) -> str:
        answer = await self.llm.agenerate(
            f"You do the {self.part} of this job: {message.body} "
            "Report in one short sentence that your part is finished.",
            max_tokens=40,
            place=self.path,
        )
        return " ".join(answer.text.split())


TRADES = ("carpenter", "painter", "gardener", "mason", "roofer", "glazier")
NAMES = ("ann", "bob", "cem", "dora", "eve", "finn", "gul", "hugo", "ines", "jan")


def contractor(number: int, llm: ModuleLLM) -> Contractor:
    """The contractor with this number, from 0; names repeat with a number behind them."""
    round_, index = divmod(number, len(NAMES))
    name = NAMES[index] + (str(round_ + 1) if round_ else "")
    trade = TRADES[number % len(TRADES)]
    return Contractor(name=name, trade=trade, rate=90 + 7 * (number * 5 % 11), llm=llm)


def guild(llm: ModuleLLM) -> GenNetwork:
    """A contractor that is itself a network: a planner, who takes the calls, and its workers."""
    return GenNetwork(
        name="guild",
        description="A planner and two workers, one contractor to the outside.",
        agents=[
            Planner(rate=70, llm=llm),
            Worker(name="digger", part="groundwork", llm=llm),
            Worker(name="joiner", part="woodwork", llm=llm),
        ],
        entry="planner",
    )


def town(contractors: int, llm: ModuleLLM, *, nested: bool = False) -> GenNetwork:
    """A manager, the contractors, and, if nested, a guild among them."""
    members: list[GenAgent] = [contractor(number, llm) for number in range(contractors)]
    if nested:
        members.append(guild(llm))
    return GenNetwork(name="town", agents=[GenAgent(name="manager"), *members])
