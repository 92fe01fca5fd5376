"""Appending on a node that does not order the log: the same answers, and what may be lost."""

from perdure.log import Committed

from ..mesh import Mesh, run_mesh
from ..virtual import everything, put, rec


def test_an_append_goes_to_the_node_that_orders_the_log() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        assert await away.append([rec(1), rec(2)]) == Committed(1, 2)
        assert await put(log, 3) == [3]
        assert await put(away, 4) == [4]
        assert away.open_segment == 0

        assert await everything(away) == [1, 2, 3, 4]

    run_mesh(scenario)
