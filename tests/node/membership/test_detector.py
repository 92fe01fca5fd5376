"""Who lives: what counts as death, and what does not."""

import pytest

from perdure.node.membership.events import Received
from perdure.node.membership.messages import HEARD

from .mesh import MS, Mesh


def deaths(mesh: Mesh) -> set[tuple[int, int, int]]:
    """(observer, node, generation) of each death that anybody has ever declared."""
    return set(mesh.died_at)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
def test_everybody_lives_while_nothing_happens(count: int) -> None:
    mesh = Mesh(count)
    mesh.run(5_000)

    assert mesh.all_agree(tuple(range(1, count + 1)))
    assert not deaths(mesh)
    for node_id in mesh.nodes:
        view = mesh.nodes[node_id].view
        assert (view.settled, view.isolated, view.doubted) == (True, False, False)
        assert view.steady() == view.alive()


@pytest.mark.parametrize("count", [2, 3, 7, 30])
def test_a_node_costs_a_constant_number_of_messages(count: int) -> None:
    mesh = Mesh(count)
    mesh.run(1_000)
    mesh.sent.clear()
    mesh.dialled.clear()
    mesh.run(2_000)

    assert set(mesh.sent.values()) == {20 * min(2, count - 1)}
    assert not mesh.dialled


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_killed_process_is_dead_within_200_ms(count: int) -> None:
    mesh = Mesh(count)
    mesh.run(3_000)
    start_ns = mesh.now_ns
    mesh.kill(count)
    mesh.run(200)

    assert {key[0] for key in deaths(mesh)} == set(range(1, count))
    assert all(at <= start_ns + 200 * MS for at in mesh.died_at.values())


def test_a_silent_machine_is_suspect_then_dead() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.dark.add(3)
    mesh.run(1_000)
    assert mesh.states(1) == mesh.states(2) == ["alive", "alive", "suspect"]
    assert mesh.alive(1) == (1, 2, 3)
    assert mesh.nodes[1].view.steady() == (1, 2)

    mesh.run(1_500)
    assert mesh.all_agree((1, 2))


def test_a_lost_connection_alone_is_no_death() -> None:
    mesh = Mesh(3)
    for _ in range(20):
        mesh.run(300)
        mesh.reset(1, 3)

    assert not deaths(mesh)


@pytest.mark.parametrize("pair", [(1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("both_ways", [False, True])
def test_a_cut_between_two_is_bridged_by_the_others(pair: tuple[int, int], both_ways: bool) -> None:
    mesh = Mesh(5)
    mesh.run(2_000)
    mesh.silenced = {pair, pair[::-1]} if both_ways else {pair}
    for _ in range(30):
        mesh.run(1_000)
        mesh.reset(*pair)

    assert not deaths(mesh)


def test_who_is_cut_off_declares_nobody_dead_and_is_dead_for_the_others() -> None:
    mesh = Mesh(5)
    mesh.run(3_000)
    mesh.cut({5}, {1, 2, 3, 4})
    mesh.run(10_000)

    assert mesh.all_agree((1, 2, 3, 4)) is True
    assert mesh.alive(5) == (1, 2, 3, 4, 5)
    assert mesh.nodes[5].view.isolated
    assert mesh.nodes[5].view.steady() == (5,)

    mesh.heal()
    mesh.run(5_000)
    assert mesh.all_agree((1, 2, 3, 4, 5))
    assert {key[1] for key in deaths(mesh)} == {5}


def test_of_two_halves_the_one_with_the_lowest_id_goes_on() -> None:
    mesh = Mesh(4)
    mesh.run(3_000)
    mesh.cut({1, 3}, {2, 4})
    mesh.run(4_000)

    assert mesh.alive(1) == mesh.alive(3) == (1, 3)
    assert mesh.alive(2) == mesh.alive(4) == (1, 2, 3, 4)


def test_who_can_only_hear_learns_that_it_is_held_to_be_dead() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.silenced = {(3, 1), (3, 2)}
    mesh.run(3_000)

    assert mesh.alive(1) == mesh.alive(2) == (1, 2)
    assert mesh.nodes[3].view.doubted
    assert mesh.alive(3) == (1, 2, 3)


@pytest.mark.parametrize("pause_ms", [700, 3_000, 60_000])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_node_that_was_paused_holds_nobodys_silence_against_them(
    pause_ms: int, restarted: bool
) -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.paused.add(1)
    mesh.run(pause_ms)
    if restarted:
        mesh.kill(3)
        mesh.restart(3)
        mesh.configure(2)
    mesh.resume(1)
    mesh.run(5_000)

    assert not any(observer == 1 and generation > 1 for observer, _, generation in deaths(mesh))
    assert all(node == 1 or (node, generation) == (3, 1) for _, node, generation in deaths(mesh))
    assert mesh.all_agree((1, 2, 3))


def test_a_pause_without_messages_waiting_kills_nobody() -> None:
    """What was on its way to it is lost: after the pause the first thing is its own tick."""
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.paused.add(1)
    mesh.run(30_000)
    mesh.waiting.clear()
    mesh.resume(1)
    mesh.run(3_000)

    assert {key[1] for key in deaths(mesh)} == {1}


def test_a_restarted_node_replaces_its_past_at_once() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.kill(3)
    mesh.restart(3)
    mesh.run(300)

    for node_id in (1, 2):
        status = mesh.nodes[node_id].view.status(3)
        assert status is not None
        assert (status.generation, status.state) == (2, "alive")


def test_heartbeats_of_the_past_do_not_revive_it() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    old = mesh.nodes[3]
    mesh.kill(3)
    mesh.run(300)
    mesh.restart(3)
    mesh.run(300)
    for _ in range(3):
        mesh.deliver(2, 1, old._gossip())
    mesh.run(100)

    status = mesh.nodes[1].view.status(3)
    assert status is not None
    assert status.generation == 2


def test_a_process_of_the_past_is_told_to_stop() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.paused.add(3)
    old = mesh.nodes[3]
    mesh.run(2_000)
    mesh.paused.discard(3)
    mesh.restart(3)
    mesh.run(500)
    new = mesh.nodes[3]
    mesh.nodes[3] = old
    mesh.deliver(1, 3, mesh.nodes[1]._gossip())
    mesh.nodes[3] = new

    assert mesh.superseded == [3]


def test_a_node_that_leaves_says_so_and_is_dead_with_its_connection() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.leave(3)
    assert mesh.nodes[1].view.steady() == (1, 2)
    assert mesh.alive(1) == (1, 2, 3)

    mesh.kill(3)
    assert mesh.all_agree((1, 2))


def test_another_vouches_for_a_node_behind_a_wall() -> None:
    """A wall answers as if nobody listened. Who has a connection to the node says otherwise."""
    mesh = Mesh(3)
    mesh.run(3_000)
    mesh.rejected = {(1, 3)}
    mesh.reset(1, 3)
    mesh.run(20_000)

    assert not deaths(mesh)


def test_a_flapping_node_is_trusted_ever_later() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    changes: list[int] = []
    for _ in range(20):
        mesh.cut({3}, {1, 2})
        mesh.run(3_000)
        mesh.heal()
        mesh.run(3_000)
        changes.append(sum(3 not in view.alive() for _, node, view in mesh.views if node == 1))

    lives = 0
    dead = False
    for _, node, view in mesh.views:
        if node == 1:
            lives += dead and 3 in view.alive()
            dead = 3 not in view.alive()
    assert lives <= 3

    mesh.run(10_000)
    assert mesh.all_agree((1, 2, 3))


def alone(*, down: set[int], dark: set[int]) -> Mesh:
    """Node 1 starts first."""
    mesh = Mesh(3)
    mesh.down, mesh.dark = down, dark
    mesh.nodes = {}
    mesh.start(1)
    return mesh


def test_the_first_of_all_to_start_finds_itself_alone() -> None:
    mesh = alone(down={2, 3}, dark=set())
    mesh.run(1_000)
    assert mesh.nodes[1].view.isolated

    mesh.run(2_000)
    assert mesh.alive(1) == (1,)
    assert not mesh.nodes[1].view.isolated


def test_who_is_refused_by_one_and_unheard_by_another_cannot_tell() -> None:
    mesh = alone(down={2}, dark={3})
    mesh.run(10_000)

    assert mesh.nodes[1].view.isolated
    assert mesh.alive(1) == (1, 2, 3)


def test_a_wall_to_the_first_that_is_dialled_is_no_death() -> None:
    """A node that has just started asks the others before it believes a refusal."""
    mesh = Mesh(3)
    mesh.run(2_000)
    mesh.kill(1)
    mesh.run(2_000)
    mesh.rejected = {(1, 2)}
    mesh.restart(1)
    mesh.run(5_000)

    assert {key[1] for key in deaths(mesh)} == {1}


def test_a_removed_node_is_forgotten() -> None:
    mesh = Mesh(3)
    mesh.run(1_000)
    mesh.kill(3)
    del mesh.generations[3]
    mesh.version += 1
    mesh.configure(1)

    assert mesh.alive(1) == (1, 2)
    assert mesh.nodes[1].view.status(3) is None


def test_messages_that_come_late_or_twice_change_nothing() -> None:
    mesh = Mesh(3)
    mesh.run(2_000)
    old = mesh.nodes[2]._gossip()
    mesh.run(1_000)
    mesh.dark.add(3)
    for _ in range(40):
        mesh.run(100)
        mesh.deliver(2, 1, old)
        mesh.deliver(2, 1, mesh.nodes[2]._gossip())

    assert mesh.all_agree((1, 2))


def test_a_killed_process_is_dead_in_time_even_if_what_was_heard_ends_later() -> None:
    """The end of what was heard from it is seen after the refusal, or never."""
    mesh = Mesh(3)
    mesh.run(3_000)
    start_ns = mesh.now_ns
    mesh.down.add(3)
    for node_id in (1, 2):
        mesh.reset(node_id, 3)
    mesh.run(200)

    assert set(mesh.died_at) == {(1, 3, 1), (2, 3, 1)}
    assert max(mesh.died_at.values()) <= start_ns + 200 * MS


def test_who_was_refused_itself_does_not_vouch() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    detector = mesh.nodes[1]

    def vouches() -> bool:
        (entry,) = [item for item in detector._gossip().entries if item.node_id == 3]
        return bool(entry.flags & HEARD)

    assert vouches()
    detector._peers[3].refused_at = detector._awake
    assert not vouches()


def test_a_process_of_the_past_speaks_for_nobody() -> None:
    mesh = Mesh(3)
    mesh.run(3_000)
    old = mesh.nodes[3]._gossip()
    mesh.kill(3)
    mesh.restart(3)
    mesh.run(500)
    mesh.kill(3)
    mesh.run(300)
    mesh.give(1, Received(mesh.clock(1), 3, 1, old))

    assert not mesh.nodes[1]._peers[3].hearing
    assert mesh.alive(1) == (1, 2)
