"""The life of a local cluster in the foreground: start, look, obey keys, stop."""

import threading
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from ....node.local_cluster.launcher import LocalCluster
    from ....node.local_cluster.picture import ClusterPicture

LOOK_SECONDS: Final = 0.25
QUIET_LOOKS: Final = 40
"""Some ten seconds. A start is slow, after which warnings may tell why."""
QUIT: Final = ("q", "Q")
WORKERS: Final = "w"


class Stop:
    """What asks for an end: a signal, or a key. The second time it is meant.

    Attributes:
        requested: somebody has asked.
        hurry: somebody has asked again.
    """

    def __init__(self) -> None:
        """Nobody has asked."""
        self.requested = threading.Event()
        self.hurry = threading.Event()

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask; takes what a signal handler takes."""
        if self.requested.is_set():
            self.hurry.set()
        self.requested.set()


class View(Protocol):
    """Shows a cluster."""

    def show(self, picture: "ClusterPicture") -> None:
        """How everything is now."""
        ...

    def ready(self, picture: "ClusterPicture") -> None:
        """For the first time every partition is led."""
        ...

    def say(self, text: str) -> None:
        """Something has happened that the picture does not show."""
        ...

    def key(self, seconds: float, stop: Stop) -> str:
        """Wait so long for a key, or until an end is asked for; empty for none."""
        ...


def run_cluster(cluster: "LocalCluster", view: View, stop: Stop) -> None:
    """Run a cluster until an end is asked for.

    Raises NodeEndedError when a node ends by itself before the cluster was ready; whoever called
    kills the others.
    """
    was_ready = False
    looks = 0
    cluster.start()
    while not stop.requested.is_set():
        picture = cluster.picture()
        looks += 1
        if not was_ready and looks <= QUIET_LOOKS:
            # Nodes that start warn of what is not there yet, which is everything.
            picture = msgspec.structs.replace(picture, warnings=())
        view.show(picture)
        if not was_ready:
            cluster.check_started(picture)
            if picture.ready:
                was_ready = True
                cluster.start_workers()
                view.ready(picture)
        obey(view.key(LOOK_SECONDS, stop), cluster, view, stop)
    view.say("stopping; once more to kill everything")
    late = cluster.stop(hurry=stop.hurry)
    view.show(cluster.picture())
    if late:
        view.say(f"killed, as they did not end in time: {', '.join(late)}")


def obey(key: str, cluster: "LocalCluster", view: View, stop: Stop) -> None:
    """Do what a key asks for; others are ignored."""
    if key in QUIT:
        stop.request()
    elif key == WORKERS:
        cluster.start_workers()
    elif key.isdigit() and (name := f"n{key}") in cluster.nodes:
        if cluster.nodes[name].runs:
            cluster.kill(name)
        else:
            cluster.bring_back(name)
