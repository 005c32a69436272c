"""Does it keep its promises when everything goes wrong at once? A simulator for us, and for what is plugged in."""

from persistip.testing.simulation.run import Options, Report, shorten, simulate
from persistip.testing.simulation.trace import Violation

__all__ = ["Options", "Report", "Violation", "shorten", "simulate"]
