"""The small community that the project itself wrote, for the demo and for tests."""

from millrace.world.small.loading import load

__all__ = ["load"]
