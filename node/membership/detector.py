"""FailureDetector: decides who lives. A plain machine: events in, effects out.

**Heartbeats.** Each node counts; a message carries the newest count that its sender has heard of
everybody, by whatever way. A node is silent while its count does not grow here. So a link that is
cut one way or both is bridged by others, a message that comes late or twice changes nothing, and no
node's clock is compared with another's. (R. van Renesse and others, "A Gossip-Style Failure
Detection Service", 1998.)

**Two clocks** measure silence, both made of the gaps between this machine's own events:

- *awake* time does not pass while this node is held up: a gap counts as two ticks at most. So a
  node that was paused holds nobody's silence during its pause against them.
- *informed* time does not pass either while the node is *isolated*, hearing of no majority. Only
  silence in informed time is death: who is cut off itself declares nobody dead.

**Refusals** are quicker than silence. When a connection is lost it is dialled again; when the
node's machine answers that nobody listens, the process is gone, unless this very path lies. So
the others are asked, and one that hears the node itself, over a connection that is open, vouches
for it. Without any, the node is dead: at once when all have answered, else after `vouch_ns`.
"""

from typing import Final, assert_never

from .events import (
    Changed,
    Configured,
    Dial,
    Effect,
    Event,
    Leave,
    Lost,
    Met,
    Newer,
    PlacementSeen,
    Received,
    Refused,
    Send,
    Superseded,
    Tick,
    Unanswered,
    Unheard,
)
from .messages import DEAD, HEARD, LEAVING, REFUSED, Entry, Gossip
from .peer import DetectorOptions, Peer
from .view import MembershipView, NodeStatus

_GAP_TICKS_MAX: Final = 2


class FailureDetector:
    """What one generation of one node knows about who lives.

    Attributes:
        view: who lives now.
    """

    def __init__(
        self, node_id: int, generation: int, *, now_ns: int, options: DetectorOptions | None = None
    ) -> None:
        """Know nobody yet; `Configured` follows."""
        self.options = options or DetectorOptions()
        self._id = node_id
        self._generation = generation
        self._counter = 1
        self._leaving = False
        self._now_ns = now_ns
        self._awake = 0
        self._informed = 0
        self._silence_counts_from = self.options.dead_ns
        self._isolated = False
        self._nodes_version = 0
        self._placement_version = 0
        self._peers: dict[int, Peer] = {}
        self._turn: list[int] = []
        self._effects: list[Effect] = []
        self.view = self._look()

    def handle(self, event: Event) -> list[Effect]:
        """Take in what happened and give what is to be done, in order."""
        effects: list[Effect] = []
        self._effects = effects
        self._pass_time(event.now_ns)
        match event:
            case Tick():
                self._tick(event)
            case Received():
                self._receive(event)
            case Met():
                self._meet(event)
            case Unheard(_, node_id, generation):
                peer = self._peers.get(node_id)
                if peer is not None and peer.generation == generation:
                    peer.hearing = False
            case Lost():
                self._lose(event)
            case Refused():
                self._refuse(event)
            case Unanswered(_, node_id):
                peer = self._peers.get(node_id)
                if peer is not None:
                    peer.wait_to_redial(self._awake, self.options)
            case Configured():
                self._configure(event)
            case PlacementSeen(_, version):
                self._placement_version = max(self._placement_version, version)
            case Leave():
                self._leaving = True
                self._tell_everybody()
            case _:
                assert_never(event)
        self._judge_refusals()
        view = self._look()
        if view != self.view:
            self.view = view
            effects.append(Changed(view))
        return effects

    # Time ----------------------------------------------------------------------------------------

    def _pass_time(self, now_ns: int) -> None:
        gap_ns = max(now_ns - self._now_ns, 0)
        self._now_ns = now_ns
        passed_ns = min(gap_ns, _GAP_TICKS_MAX * self.options.tick_ns)
        self._awake += passed_ns
        if not self._isolated:
            self._informed += passed_ns
        if gap_ns > self.options.pause_ns:
            self._resume()

    def _resume(self) -> None:
        """This node was held up: what it knows is old, and others may think that it is dead."""
        self._counter += 1
        wait_ns = self._awake + self.options.suspect_ns
        self._silence_counts_from = max(self._silence_counts_from, wait_ns)
        for peer in self._peers.values():
            if peer.refused_at is not None:
                peer.settle_refusal()
                peer.next_dial = self._awake
        self._tell_everybody()

    def _tick(self, tick: Tick) -> None:
        self._counter += 1
        self._isolated = self._hears_no_majority()
        for peer in self._peers.values():
            self._judge_silence(peer)
        self._dial_those_due()
        self._tell_some(tick.draw)

    # Judging -------------------------------------------------------------------------------------

    def _hears(self, peer: Peer) -> bool:
        return peer.counter > 0 and self._awake - peer.heard_at <= self.options.suspect_ns

    def _hears_no_majority(self) -> bool:
        """Whether those that are heard are too few to tell who of us is cut off.

        Who is gone for certain does not count at all. Of two halves, the one with the lowest id
        goes on.
        """
        counting = [peer for peer in self._peers.values() if not peer.gone]
        heard = [peer.node_id for peer in counting if self._hears(peer)]
        together, all_of_us = 1 + len(heard), 1 + len(counting)
        if 2 * together != all_of_us:
            return 2 * together < all_of_us
        lowest = min(self._id, *(peer.node_id for peer in counting))
        return lowest != self._id and lowest not in heard

    def _judge_silence(self, peer: Peer) -> None:
        options = self.options
        if peer.state == "dead":
            return
        if peer.state == "alive" and self._awake - peer.heard_at > options.suspect_ns:
            peer.state = "suspect"
        if (
            not self._isolated
            and self._awake >= self._silence_counts_from
            and self._informed - peer.silent_since > options.dead_ns
        ):
            peer.die(gone=False)

    def _judge_refusals(self) -> None:
        for peer in self._peers.values():
            if peer.refused_at is not None and self._is_gone(peer, peer.refused_at):
                peer.die(gone=True)

    def _is_gone(self, peer: Peer, refused_at: int) -> bool:
        """Whether a refusal stands: nobody vouches, and that means something."""
        others = [
            other for other in self._peers.values() if other is not peer and other.state != "dead"
        ]
        waited_ns = self._awake - refused_at
        if self._isolated:
            # Who is not heard cannot vouch. Only when all processes are gone alike, such as at the
            # start of the first of them, is it they that are gone.
            return waited_ns >= self.options.dead_ns and all(
                other.refused_at is not None for other in others
            )
        return waited_ns >= self.options.vouch_ns or all(
            other.node_id in peer.answered for other in others if other.state == "alive"
        )

    # What is heard -------------------------------------------------------------------------------

    def _receive(self, event: Received) -> None:
        gossip = event.gossip
        newer_nodes = gossip.nodes_version > self._nodes_version
        if newer_nodes or gossip.placement_version > self._placement_version:
            self._effects.append(Newer(gossip.nodes_version, gossip.placement_version))
        sender = self._peers.get(event.sender)
        if sender is None or event.generation < sender.generation:
            return  # A stranger until the configuration has it, or a node's past.
        self._learn_generation(sender, event.generation, heard=True)
        sender.direct_at = self._awake
        sender.hearing = True
        sender.doubts_me = False
        sender.settle_refusal()  # It speaks for itself.
        is_asked = False
        for entry in gossip.entries:
            if entry.node_id == self._id:
                self._learn_about_me(entry, sender)
            elif peer := self._peers.get(entry.node_id):
                self._learn(entry, peer)
                if peer is not sender and entry.generation == peer.generation:
                    is_asked = self._learn_of_refusal(entry, peer, sender) or is_asked
        if is_asked and sender.told_at != self._counter:
            # At most once in a tick, whatever is asked.
            sender.told_at = self._counter
            self._tell(sender)

    def _learn_about_me(self, entry: Entry, sender: Peer) -> None:
        if entry.generation > self._generation:
            self._effects.append(Superseded(entry.generation))
        elif entry.generation == self._generation:
            sender.doubts_me = bool(entry.flags & DEAD)

    def _learn(self, entry: Entry, peer: Peer) -> None:
        if entry.generation < peer.generation:
            return
        self._learn_generation(peer, entry.generation, heard=entry.counter > 0)
        peer.leaving = peer.leaving or bool(entry.flags & LEAVING)
        if entry.counter > peer.counter:
            peer.advance(entry.counter, self._awake, self._informed, self.options)

    def _learn_generation(self, peer: Peer, generation: int, *, heard: bool) -> None:
        if generation > peer.generation:
            peer.restart(generation, self._awake, self._informed, heard=heard)
            self._dial(peer)

    def _learn_of_refusal(self, entry: Entry, peer: Peer, sender: Peer) -> bool:
        """What another says of a node that one of us was refused by; whether it wants an answer."""
        if peer.refused_at is not None:
            if entry.flags & HEARD:
                peer.settle_refusal()
            else:
                peer.answered.add(sender.node_id)
        if not entry.flags & REFUSED:
            return False
        if not peer.connected and peer.refused_at is None and peer.state != "dead":
            self._dial(peer)  # Look for ourselves.
        return True

    def _meet(self, event: Met) -> None:
        if event.node_id == self._id:
            if event.generation > self._generation:
                self._effects.append(Superseded(event.generation))
            return
        peer = self._peers.get(event.node_id)
        if peer is None:
            return
        if event.connected:
            peer.dialling = False
        if event.generation < peer.generation:
            # A process of the past has its address still, or again: look again, but not at once.
            peer.wait_to_redial(self._awake, self.options)
            return
        self._learn_generation(peer, event.generation, heard=True)
        peer.direct_at = self._awake
        if event.connected:
            peer.connected = True
            peer.connected_at = self._awake
            peer.settle_refusal()
            self._tell(peer)
        else:
            peer.hearing = True

    def _lose(self, event: Lost) -> None:
        peer = self._peers.get(event.node_id)
        if peer is None or event.generation != peer.generation:
            return
        peer.connected = False
        if peer.leaving:
            peer.die(gone=True)
        if self._awake - peer.connected_at < self.options.redial_ns_max:
            peer.wait_to_redial(self._awake, self.options)
        else:
            peer.redial_ns = 0
            self._dial(peer)

    def _refuse(self, event: Refused) -> None:
        peer = self._peers.get(event.node_id)
        if peer is None:
            return
        peer.wait_to_redial(self._awake, self.options)
        if event.generation != peer.generation:
            peer.next_dial = self._awake
        elif peer.state == "dead":
            peer.gone = peer.gone or peer.recovering_since is None
        elif peer.refused_at is None:
            peer.refused_at = self._awake
            peer.answered.clear()
            self._tell_everybody()

    def _configure(self, event: Configured) -> None:
        if event.version <= self._nodes_version:
            return
        self._nodes_version = event.version
        known = dict(event.nodes)
        for node_id in [node_id for node_id in self._peers if node_id not in known]:
            del self._peers[node_id]
        for node_id, generation in sorted(known.items()):
            if node_id == self._id:
                if generation > self._generation:
                    self._effects.append(Superseded(generation))
            elif peer := self._peers.get(node_id):
                self._learn_generation(peer, generation, heard=False)
            else:
                self._peers[node_id] = Peer(node_id, generation, self._awake, self._informed)
        self._peers = dict(sorted(self._peers.items()))
        self._isolated = self._hears_no_majority()
        self._dial_those_due()

    # What is told --------------------------------------------------------------------------------

    def _dial(self, peer: Peer) -> None:
        if not peer.dialling:
            peer.dialling = True
            self._effects.append(Dial(peer.node_id, peer.generation))

    def _dial_those_due(self) -> None:
        for peer in self._peers.values():
            if not peer.connected and peer.next_dial <= self._awake:
                self._dial(peer)

    def _tell_some(self, draw: int) -> None:
        """Tell the next few; everybody has a turn before anybody has two."""
        connected = sum(peer.connected for peer in self._peers.values())
        for _ in range(min(self.options.fanout, connected)):
            while self._turn and not self._is_connected(self._turn[-1]):
                self._turn.pop()
            if not self._turn:
                self._turn = self._shuffled(draw)
            self._tell(self._peers[self._turn.pop()])

    def _is_connected(self, node_id: int) -> bool:
        peer = self._peers.get(node_id)
        return peer is not None and peer.connected

    def _shuffled(self, draw: int) -> list[int]:
        """Those who can be told, in an order that `draw` decides."""
        left = [peer.node_id for peer in self._peers.values() if peer.connected]
        order: list[int] = []
        while left:
            draw, index = divmod(draw, len(left))
            order.append(left.pop(index))
            # A draw has bits enough for twenty nodes; more of them go on from a mix of it.
            draw = draw or (len(order) * 0x9E3779B97F4A7C15) >> 7 & 0xFFFFFFFF
        return order

    def _tell_everybody(self) -> None:
        for peer in self._peers.values():
            self._tell(peer)

    def _tell(self, peer: Peer) -> None:
        if peer.connected:
            self._effects.append(Send(peer.node_id, self._gossip()))

    def _gossip(self) -> Gossip:
        mine = Entry(self._id, self._generation, self._counter, LEAVING if self._leaving else 0)
        return Gossip(
            self._nodes_version,
            self._placement_version,
            (mine, *(self._entry(peer) for peer in self._peers.values())),
        )

    def _entry(self, peer: Peer) -> Entry:
        flags = HEARD if self._vouches_for(peer) else 0
        if peer.state == "dead":
            flags |= DEAD
        if peer.refused_at is not None:
            flags |= REFUSED
        if peer.leaving:
            flags |= LEAVING
        return Entry(peer.node_id, peer.generation, peer.counter, flags)

    def _vouches_for(self, peer: Peer) -> bool:
        """Whether the node's process is there for certain.

        An open connection is not enough, as it stays open over a link that is cut; and what was
        heard is not enough, as the process may have ended since.
        """
        options = self.options
        turns = -(-len(self._peers) // options.fanout)
        window_ns = max(options.suspect_ns, (2 * turns + 2) * options.tick_ns)
        if peer.refused_at is not None or peer.state == "dead":
            return False  # The end of what was heard has not been seen yet, or this is its past.
        return peer.hearing and self._awake - peer.direct_at <= window_ns

    def _look(self) -> MembershipView:
        nodes = [
            NodeStatus(peer.node_id, peer.generation, peer.state, peer.leaving)
            for peer in self._peers.values()
        ]
        nodes.append(NodeStatus(self._id, self._generation, "alive", self._leaving))
        nodes.sort(key=lambda status: status.node_id)
        heard = [peer for peer in self._peers.values() if self._hears(peer)]
        doubting = sum(peer.doubts_me for peer in heard)
        return MembershipView(
            me=self._id,
            nodes=tuple(nodes),
            settled=self._awake >= self._silence_counts_from,
            isolated=self._isolated,
            doubted=2 * doubting > len(heard),
        )
