"""Worlds of one replicated loglet: log-servers, a sequencer, readers, sealers, and faults."""

from .run import LogletReport, run_loglet_seed, run_loglet_seed_twice
from .world import LogletWorld, LogletWorldOptions

__all__ = [
    "LogletReport",
    "LogletWorld",
    "LogletWorldOptions",
    "run_loglet_seed",
    "run_loglet_seed_twice",
]
