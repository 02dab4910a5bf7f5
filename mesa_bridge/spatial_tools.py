"""The tools that Mesa agents have from the beginning: to move, and to speak.

Bridge, floor 3. They work in every space; where an agent cannot do what it wants, the error says
what it can do instead, for it is a model that reads it.
"""

from __future__ import annotations

from typing import Any

from llm_net.snapshot import jsonable
from llm_net.tools.tool import tool
from mesa_bridge.place import Place, named
from mesa_bridge.spaces import place_of

__all__ = ["move_one_step", "speak_to", "teleport_to_location"]


@tool
def move_one_step(agent: Any, direction: str) -> str:
    """Move one step.

    Args:
        agent: Who moves.
        direction: North, NorthEast, East, SouthEast, South, SouthWest, West or NorthWest, as far as
            the space has it. Where there are no such directions, the neighbouring place to go to.
    """
    place = _place(agent)
    ways = {name.casefold(): way for name, way in place.directions().items()}
    if not ways:
        ways = {str(jsonable(way)).casefold(): way for way in place.adjacent()}
    wanted = direction.strip().casefold()
    if wanted not in ways:
        raise ValueError(f"{named(agent)} cannot move {direction!r} from here. {place.possible()}")
    place.move(ways[wanted])
    return _arrived(agent, place)


@tool
def teleport_to_location(agent: Any, target_coordinates: list[float] | int | str) -> str:
    """Move to any place at once.

    Args:
        agent: Who moves.
        target_coordinates: The place as a list of numbers, such as [3, 4]; in a network the node.
    """
    place = _place(agent)
    place.move(target_coordinates)
    return _arrived(agent, place)


@tool
def speak_to(agent: Any, listener_agents_unique_ids: list[int], message: str) -> str:
    """Say something to others, who will remember it.

    Args:
        agent: Who speaks.
        listener_agents_unique_ids: The unique ids of those who are to hear it.
        message: What is said.
    """
    send = getattr(agent, "send_message", None)
    if send is None:
        raise ValueError(f"{named(agent)} cannot speak: it has no method send_message.")
    wanted = dict.fromkeys(listener_agents_unique_ids)
    known = {each.unique_id: each for each in agent.model.agents if each is not agent}
    listeners = [known[each] for each in wanted if each in known]
    missing = ", ".join(str(each) for each in wanted if each not in known)
    if not listeners:
        raise ValueError(f"nobody was told: there is no other agent {missing or 'in the list'}.")
    told = str(send(message, listeners))
    return f"{told} There is no other agent {missing}." if missing else told


def _place(agent: Any) -> Place:
    place = place_of(agent)
    if place is None:
        raise ValueError(f"{named(agent)} cannot move: it is in no space.")
    return place


def _arrived(agent: Any, place: Place) -> str:
    return f"{named(agent)} moved to {jsonable(place.position)}."
