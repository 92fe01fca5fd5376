"""Long work in slices that do not hold the node's event loop up."""

from asyncio import AbstractEventLoop
from typing import Final

from ...core.pauses import next_turn

SLICE_SECONDS: Final = 0.001
"""How long a slice goes on before everybody else has a turn."""


class Pacer:
    """Gives the loop back whenever a slice's time is over."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Begin the first slice."""
        self._loop = loop
        self._until = loop.time() + SLICE_SECONDS

    async def pause(self) -> None:
        """Between two small steps: let others run if it is their turn. Cancelling is safe."""
        if self._loop.time() >= self._until:
            await next_turn(self._loop)
            self._until = self._loop.time() + SLICE_SECONDS
