"""An embedded Hydra: answers as a real one was recorded to, from a world held in memory."""

from agent.demo.hydra.server import EmbeddedHydra
from agent.demo.hydra.world import World

__all__ = ["EmbeddedHydra", "World"]
