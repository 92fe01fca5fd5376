"""Who has been well for how long."""

from perdure.node.controller.steadiness import Steadiness, SteadinessOptions

from .facts import nodes_of, view_of

S = 1_000_000_000
OPTIONS = SteadinessOptions(
    settle_ns=10 * S, settle_ns_max=60 * S, forgive_ns=100 * S, replace_ns=30 * S
)
NODES = nodes_of(2)
WELL = view_of(NODES)
DEAD = view_of(NODES, dead=(2,))


def test_a_node_settles_after_a_while() -> None:
    steadiness = Steadiness(OPTIONS)
    steadiness.observe(0, WELL)

    assert steadiness.settled(10 * S - 1) == frozenset()
    assert steadiness.settled(10 * S) == {1, 2}


def test_a_dead_node_is_lost_after_a_while() -> None:
    steadiness = Steadiness(OPTIONS)
    steadiness.observe(0, WELL)
    steadiness.observe(5 * S, DEAD)
    steadiness.observe(20 * S, DEAD)

    assert steadiness.lost(35 * S - 1) == frozenset()
    assert steadiness.lost(35 * S) == {2}
    assert steadiness.settled(35 * S) == {1}


def test_each_death_makes_settling_longer_until_it_is_forgiven() -> None:
    steadiness = Steadiness(OPTIONS)
    now_ns = 0
    for wait_s in (20, 40, 60, 60):
        steadiness.observe(now_ns, DEAD)
        now_ns += S
        steadiness.observe(now_ns, WELL)
        if wait_s == 20:
            steadiness.observe(now_ns, DEAD)
            steadiness.observe(now_ns, WELL)
        assert 2 not in steadiness.settled(now_ns + wait_s * S - 1)
        assert 2 in steadiness.settled(now_ns + wait_s * S)
        now_ns += wait_s * S
        steadiness.observe(now_ns, WELL)

    now_ns += 100 * S
    steadiness.observe(now_ns, WELL)
    steadiness.observe(now_ns, DEAD)
    steadiness.observe(now_ns, WELL)
    assert 2 in steadiness.settled(now_ns + 20 * S)


def test_who_suspects_only_for_a_moment_starts_again_without_a_penalty() -> None:
    steadiness = Steadiness(OPTIONS)
    steadiness.observe(0, WELL)
    steadiness.observe(5 * S, view_of(NODES, suspect=(2,)))
    steadiness.observe(6 * S, WELL)

    assert steadiness.settled(15 * S) == {1}
    assert steadiness.settled(16 * S) == {1, 2}
