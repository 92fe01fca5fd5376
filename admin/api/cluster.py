"""The cluster over admin REST: nodes, where partitions are, metadata servers, metadata."""

import base64
from typing import Final

import msgspec

from ...metadata.api import KEY_BYTES_MAX
from ...metadata.quorum import MembersReport
from ..cluster import ClusterStatus, NodeRow, PartitionRow
from ..errors import AdminRequestError, NoSuchResourceError
from ..view import AdminView
from .parameters import NUMBER_MAX, Parameters, decode_body, truth, whole_number
from .routes import Request, Route

KEYS_SHOWN_MAX: Final = 10_000
"""A list of keys ends there; a prefix asks for less."""

_TEXT_SHOWN: Final = 64
_PREFIX_MAX: Final = KEY_BYTES_MAX


class MoveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a partition's lead is to go."""

    to: str


class AddMemberBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which node is to be a metadata server."""

    name: str


class MetadataValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of the metadata store.

    Attributes:
        value: what it says, where it is JSON.
        base64: the bytes, where it is not; empty otherwise.
    """

    key: str
    version: int
    value: object = None
    base64: str = ""


class MetadataKeys(msgspec.Struct, frozen=True):
    """Keys of the metadata store, sorted; `more` when there are further ones."""

    keys: list[str]
    more: bool


class ClusterApi:
    """``/cluster`` and what lies below it. Everything raises what `ClusterView` raises."""

    def __init__(self, view: AdminView) -> None:
        """Take the node."""
        self._view = view

    def routes(self) -> list[Route]:
        """All of them."""
        node, members = "/cluster/nodes/{name}", "/cluster/metadata/members"
        return [
            Route("GET", "/cluster", self.status),
            Route("POST", f"{node}/drain", self.drain),
            Route("POST", f"{node}/undrain", self.undrain),
            Route("DELETE", node, self.remove_node),
            Route("POST", "/cluster/partitions/{partition}/move", self.move),
            Route("GET", members, self.members),
            Route("POST", members, self.add_member),
            Route("DELETE", f"{members}/{{name}}", self.remove_member),
            Route("GET", "/cluster/metadata/keys", self.keys),
            Route("GET", "/cluster/metadata/keys/{key*}", self.value),
        ]

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [Route("GET", "/cluster", self.status)]

    async def status(self, request: Request) -> ClusterStatus:
        """The cluster as this node sees it."""
        return await self._view.cluster_view.status()

    async def drain(self, request: Request) -> NodeRow:
        """Have a node give up what it leads and keeps."""
        return await self._set_drained(request, drained=True)

    async def undrain(self, request: Request) -> NodeRow:
        """Let a node lead and keep partitions again."""
        return await self._set_drained(request, drained=False)

    async def _set_drained(self, request: Request, *, drained: bool) -> NodeRow:
        Parameters(request.query, ())
        (name,) = request.parts
        return await self._view.cluster_view.set_drained(name, drained)

    async def remove_node(self, request: Request) -> NodeRow:
        """Take a node out for good; ``?lost=true`` where the cluster cannot tell that it is."""
        (name,) = request.parts
        lost = Parameters(request.query, ("lost",)).value("lost", truth)
        return await self._view.cluster_view.remove_node(name, lost=bool(lost))

    async def move(self, request: Request) -> PartitionRow:
        """Have a node lead a partition. Raises NoSuchResourceError too."""
        body = decode_body(request.body, MoveBody, '{"to": the name of a node}')
        (text,) = request.parts
        number = whole_number(text)
        if number is None or number >= NUMBER_MAX:
            raise NoSuchResourceError(
                f"{text[:_TEXT_SHOWN]!r} is no partition; GET /cluster lists those that there are"
            )
        return await self._view.cluster_view.move(number, body.to)

    async def members(self, request: Request) -> MembersReport:
        """The metadata servers."""
        return await self._view.cluster_view.metadata_members()

    async def add_member(self, request: Request) -> MembersReport:
        """Make a node a metadata server; answers when it has a copy of everything."""
        body = decode_body(request.body, AddMemberBody, '{"name": the name of a node}')
        return await self._view.cluster_view.add_metadata_member(body.name)

    async def remove_member(self, request: Request) -> MembersReport:
        """Take a node out of the metadata servers."""
        (name,) = request.parts
        return await self._view.cluster_view.remove_metadata_member(name)

    async def value(self, request: Request) -> MetadataValue:
        """One value of the metadata store. Raises NoSuchResourceError too."""
        (key,) = request.parts
        if not key:
            raise AdminRequestError("say which key: GET /cluster/metadata/keys lists them")
        found = await self._view.cluster_view.metadata_value(key)
        if found is None:
            raise NoSuchResourceError(
                f"the metadata store has no key {key[:_TEXT_SHOWN]!r}; "
                "GET /cluster/metadata/keys lists those that there are"
            )
        return _shown(key, found.version, found.value)

    async def keys(self, request: Request) -> MetadataKeys:
        """The keys of the metadata store, those with a prefix or all."""
        prefix = Parameters(request.query, ("prefix",)).value("prefix", _prefix) or ""
        keys = await self._view.cluster_view.metadata_keys(prefix)
        return MetadataKeys(keys[:KEYS_SHOWN_MAX], len(keys) > KEYS_SHOWN_MAX)


def _shown(key: str, version: int, value: bytes) -> MetadataValue:
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return MetadataValue(key, version, base64=base64.b64encode(value).decode())
    return MetadataValue(key, version, value=decoded)


def _prefix(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > _PREFIX_MAX:
        raise ValueError(f"at most {_PREFIX_MAX} bytes")
    return text
