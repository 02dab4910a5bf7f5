"""What a person sees of the negotiation: the conversation, the table, the pictures."""

import sys
from pathlib import Path

from llm_net import GenNetwork, Message
from llm_net.protocols import Outcome, Propose

CLEAR = "\r\033[K" if sys.stderr.isatty() else ""


def line(message: Message) -> None:
    """One message of the conversation, as it happens."""
    sys.stderr.write(CLEAR)  # the line of progress that may stand there
    sys.stderr.flush()
    sender = "you" if message.sender is None else message.sender.path
    receiver = "" if message.receiver is None else f" -> {message.receiver.path}"
    price = f" [{message.price:.2f}]" if isinstance(message, Propose) else ""
    said = " ".join(message.body.split())
    print(f"{sender}{receiver}  {message.method}{price}{': ' + said if said else ''}", flush=True)


def table(outcome: Outcome) -> str:
    """Who offered what, and what became of it."""
    rows = [("contractor", "bid", "outcome")]
    for name, bid in outcome.proposals.items():
        fate = "failed" if name in outcome.failed else "rejected"
        rows.append((name, f"{bid.price:.2f}", "awarded" if name == outcome.winner else fate))
    rows.extend((name, f"{bid.price:.2f}", "late") for name, bid in outcome.late.items())
    rows.extend(
        (name, "-", "no answer" if why is None else "no bid")
        for name, why in outcome.refused.items()
    )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append("")
    lines.append(f"status: {outcome.status}")
    if outcome.winner is not None and outcome.result is not None:
        lines.append(f"award:  {outcome.winner}")
        lines.append(f"result: {outcome.result.body}")
    return "\n".join(lines)


def pictures(outcome: Outcome, network: GenNetwork, folder: Path) -> list[Path]:
    """Write the network and the conversation as files that a browser opens.

    Raises:
        OSError: If the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "network.svg": network.to_svg(),
        "conversation.svg": outcome.to_svg(),
        "conversation.mmd": outcome.to_mermaid(),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in files]
