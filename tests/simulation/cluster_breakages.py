"""Rules of clusters that are broken on purpose: each must be found by simulated clusters.

`CLUSTER_BREAKAGES` maps a name to what breaks the rule and gives the worlds that are to find it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perdure.metadata.nodes import NodesConfiguration
from perdure.node.cluster import joining
from perdure.node.cluster.joining import JoinOutcome, JoinRequest
from perdure.node.controller.sketch import Sketch
from perdure.node.membership.detector import FailureDetector
from perdure.node.membership.peer import Peer
from perdure.testing.simulation.cluster import ClusterOptions

S = 1_000_000_000
Breakage = Callable[[pytest.MonkeyPatch], ClusterOptions]

QUIET_DEATHS = ClusterOptions(kinds=("power",), gap_ns=(4 * S, 5 * S), loss=False)
QUIET_KILLS = ClusterOptions(kinds=("kill",), gap_ns=(3 * S, 4 * S), loss=False)


def own_pause_counts(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """Time in which a node was held up counts as the others' silence.

    Whoever wakes up hears no majority at first, which hides this; so that rule is off, too. Without
    the first breakage these worlds bear that.
    """

    def pass_time(self: Any, now_ns: int) -> None:
        gap_ns = max(now_ns - self._now_ns, 0)
        self._now_ns = now_ns
        self._awake += gap_ns
        self._informed += 0 if self._isolated else gap_ns

    patch.setattr(FailureDetector, "_pass_time", pass_time)
    patch.setattr(FailureDetector, "_hears_no_majority", lambda _self: False)
    return ClusterOptions(kinds=("pause",), gap_ns=(S // 2, 2 * S))


def minority_declares_death(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """Who is cut off takes the others for dead."""
    patch.setattr(FailureDetector, "_hears_no_majority", lambda _self: False)
    return ClusterOptions(kinds=("cut off", "split"), gap_ns=(S // 2, 2 * S))


def refusal_is_believed(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """A refused connection is death, whatever others say."""
    patch.setattr(FailureDetector, "_is_gone", lambda *_: True)
    return ClusterOptions(kinds=("wall", "reset"), gap_ns=(S, 3 * S))


def refusal_is_ignored(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """Only silence is death."""
    patch.setattr(FailureDetector, "_is_gone", lambda *_: False)
    return QUIET_KILLS


def silence_is_ignored(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """Only a refusal is death."""
    patch.setattr(FailureDetector, "_judge_silence", lambda *_: None)
    return QUIET_DEATHS


def any_heartbeat_counts(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """A heartbeat that was heard before counts again, from each who tells of it."""

    def learn(self: Any, entry: Any, peer: Any) -> None:
        if entry.generation >= peer.generation:
            self._learn_generation(peer, entry.generation, heard=True)
            peer.advance(entry.counter, self._awake, self._informed, self.options)

    patch.setattr(FailureDetector, "_learn", learn)
    return QUIET_DEATHS


def restarts_are_not_seen(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """A newer generation is taken for the one that is known."""
    patch.setattr(Peer, "restart", lambda *_args, **_named: None)
    return QUIET_KILLS


def the_dead_keep_the_lead(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """Planning takes every node for alive."""
    make = Sketch.__init__

    def init(self: Any, facts: Any, current: Any) -> None:
        make(self, facts, current)
        self.leads = set(self.workers)

    patch.setattr(Sketch, "__init__", init)
    return ClusterOptions(
        kinds=("power",), faults_ns=30 * S, gap_ns=(6 * S, 7 * S), count=3, loss=False
    )


def an_empty_disk_is_let_in(patch: pytest.MonkeyPatch) -> ClusterOptions:
    """Whoever has the name is the node."""
    decide = joining.join

    def join(current: NodesConfiguration, request: JoinRequest, **_named: Any) -> JoinOutcome:
        entry = current.named(request.name)
        if entry is not None:
            request = replace(request, marked_tokens=frozenset({entry.disk_token}))
        return decide(current, request)

    patch.setattr("perdure.node.cluster.registry.join", join)
    return ClusterOptions(kinds=("impostor", "kill"), gap_ns=(S, 2 * S))


CLUSTER_BREAKAGES: dict[str, Breakage] = {
    breakage.__name__: breakage
    for breakage in (
        own_pause_counts,
        minority_declares_death,
        refusal_is_believed,
        refusal_is_ignored,
        silence_is_ignored,
        any_heartbeat_counts,
        restarts_are_not_seen,
        the_dead_keep_the_lead,
        an_empty_disk_is_let_in,
    )
}
