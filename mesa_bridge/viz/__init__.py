"""What is seen of a model in the browser: components for Mesa's SolaraViz. Needs Solara."""

from mesa_bridge.viz.components import AgentMind, Conversation, Costs, NetworkView

__all__ = ["AgentMind", "Conversation", "Costs", "NetworkView"]
