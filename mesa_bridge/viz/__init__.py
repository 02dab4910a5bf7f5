"""What is seen of a model in the browser, by Mesa's SolaraViz: components, portrayals.

Needs Solara.
"""

from mesa_bridge.viz.components import AgentMind, Conversation, Costs, NetworkView
from mesa_bridge.viz.portrayal import agent_portrayal, legend

__all__ = ["AgentMind", "Conversation", "Costs", "NetworkView", "agent_portrayal", "legend"]
