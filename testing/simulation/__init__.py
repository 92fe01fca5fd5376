"""Simulation: a whole node on a virtual clock, with faults, repeatable from a seed.

`run_seed` runs one world; everything else here is what a world is made of. Imports any part.
"""

from .loop import SimulationClock, SimulationLoop, SimulationStalledError
from .run import SeedReport, run_seed
from .violation import InvariantViolation
from .world import WorldOptions

__all__ = [
    "InvariantViolation",
    "SeedReport",
    "SimulationClock",
    "SimulationLoop",
    "SimulationStalledError",
    "WorldOptions",
    "run_seed",
]
