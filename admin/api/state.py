"""The state of objects and workflows over admin REST: look at it, change it in its turn."""

import asyncio
import base64
import binascii
from asyncio import Future
from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from ...core.errors import PerdureError
from ...core.hashing import keyed_partition_key
from ...core.ids import PartitionKey
from ...core.protocol.messages import ENTRY_BYTES_MAX
from ...core.protocol.session import ServiceKind
from ...partition_processor import outcomes
from ...partition_processor.call_resolver import CALLED_KEY_BYTES_MAX
from ...partition_processor.partition import Partition
from ...partition_processor.processor import NotLeadingError, PartitionProcessor
from ...partition_processor.records import PatchState
from ...partition_processor.state_changes import state_version
from ...partition_processor.tables import keys
from ..elsewhere import Forwarded, Question
from ..errors import AdminRequestError, NoSuchResourceError, StateVersionError
from ..view import AdminView
from .invocation_answers import RelatedView
from .invocation_detail import related
from .invocation_scan import confirm_lead
from .parameters import Parameters, decode_body
from .reach import Reach, decoded
from .related import RelatedApi
from .routes import BODY_BYTES_MAX, Request, Route
from .state_answers import StateAnswer, StateEntry, StateView
from .value_view import VALUE_BYTES_SHOWN, is_json, key_text, value_view

CHANGES_MAX: Final = 1000
WAIT_MS_MAX: Final = 300_000
_TEXT_SHOWN: Final = 64
_VERSION_BYTES: Final = 16
_STATE_BODY_BYTES_MAX: Final = ENTRY_BYTES_MAX * 4 // 3 + BODY_BYTES_MAX
_FORM: Final = (
    '{"service", "key", "changes": [{"name", and "json" with any value, "base64" with bytes, or '
    '"clear": true}], "replace": true to clear everything else, "version": hex, "wait_ms"}'
)


class StateChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new value of one entry, in one of two forms; or none any more."""

    name: str
    json: msgspec.Raw = msgspec.Raw(b"")
    base64: str | None = None
    clear: bool = False


class StateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for.

    Attributes:
        replace: whether everything that is not in `changes` is cleared.
        version: that the state must have when the change is made.
        wait_ms: how long to wait for the change's turn.
    """

    service: str
    key: str
    changes: list[StateChange] = []
    replace: bool = False
    version: str | None = None
    wait_ms: int = 0


class _Place(msgspec.Struct, frozen=True):
    """Where an object lives."""

    processor: PartitionProcessor
    partition_key: bytes
    service: str
    key: str

    @property
    def object_name(self) -> bytes:
        """As keys name it."""
        return keys.object_suffix(self.service, self.key)

    def state(self) -> dict[bytes, bytes]:
        """What it has now."""
        return self.processor.transaction.object_state(self.partition_key, self.object_name)


class StateApi:
    """``/state``."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it answers for the whole cluster."""
        self._view = view
        self._reach = reach
        self._related = RelatedApi(view, Reach(view))

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/state", self.show),
            Route("POST", "/state", self.change, _STATE_BODY_BYTES_MAX),
        ]

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [Route("GET", "/state", self.show)]

    async def show(self, request: Request) -> object:
        """The state of one key, as the node that leads its partition has it.

        Raises AdminRequestError, NoSuchResourceError, NotLeadingError, TransportError.
        """
        parameters = Parameters(request.query, ("service", "key", "name"))
        service, key = parameters.value("service", str), parameters.value("key", str)
        if service is None or key is None:
            raise AdminRequestError("say whose state: service and key")
        place = self._place(service, key)
        name = parameters.value("name", str)

        async def here() -> StateView:
            return await self._show(place, name)

        return await self._reach.at_leader(
            place.processor.partition, Question("GET", "/state", request.query), here
        )

    async def _show(self, place: _Place, name: str | None) -> StateView:
        """Raises NotLeadingError."""
        processor = place.processor
        if self._view.manager.is_elsewhere(processor.partition):
            raise NotLeadingError(
                f"partition {processor.partition}, which has {place.service}/{place.key}, is not "
                "led by this node, and only the node that leads it can show its state"
            )
        await confirm_lead(processor)
        state = place.state()
        shown_max = VALUE_BYTES_SHOWN if name is None else ENTRY_BYTES_MAX
        shown = StateView(
            service=place.service,
            key=place.key,
            version=state_version(state).hex(),
            entries=[
                StateEntry(key_text(entry), value_view(state[entry], shown_max))
                for entry in sorted(state)
                if name is None or entry == name.encode()
            ],
            holder=self._holder(place),
        )
        holder = await self._related.related(shown.holder)
        return msgspec.structs.replace(shown, holder=holder)

    async def change(self, request: Request) -> StateAnswer:
        """Change it now, or in its turn among the object's invocations.

        Raises AdminRequestError, NoSuchResourceError, StateVersionError, RecordTooLargeError,
        NotLeadingError, LogClosedError, PeerOverloadedError or OutcomeUnknownError. Cancelling
        leaves open whether it is changed.
        """
        Parameters(request.query, ())
        body = decode_body(request.body, StateBody, _FORM)
        if not 0 <= body.wait_ms <= WAIT_MS_MAX:
            raise AdminRequestError(f"wait_ms={body.wait_ms}: give 0 to {WAIT_MS_MAX}")
        place = self._place(body.service, body.key)
        command = PatchState(
            place.partition_key,
            body.service,
            body.key,
            _changes(body),
            body.replace,
            _version(body.version),
        )
        manager = self._view.manager
        partition = manager.partition_for(PartitionKey(int.from_bytes(place.partition_key, "big")))
        outcome = await _operate(partition, command, body.wait_ms / 1000)
        seen = await self._seen(place)
        version = "" if seen is None else seen.version
        if outcome == outcomes.VERSION_MISMATCH:
            raise StateVersionError(
                f"the state of {body.service}/{body.key} is not of version {body.version}; it has "
                f"{version or 'another'} now, and nothing was changed: read it again"
            )
        queued = outcome == outcomes.QUEUED
        word: Literal["done", "queued"] = "queued" if queued else "done"
        holder = seen.holder if queued and seen is not None else None
        return StateAnswer(word, version, holder)

    async def _seen(self, place: _Place) -> StateView | None:
        """How the state is after a change, without its entries; None where its leader is lost."""
        processor = place.processor
        if not self._view.manager.is_elsewhere(processor.partition):
            return StateView(
                place.service,
                place.key,
                state_version(place.state()).hex(),
                [],
                await self._related.related(self._holder(place)),
            )
        query = urlencode({"service": place.service, "key": place.key, "name": ""})
        try:
            answer = await self._reach.at_leader(
                processor.partition, Question("GET", "/state", query), lambda: self._show(place, "")
            )
            if isinstance(answer, Forwarded):
                return decoded(answer, StateView)
        except PerdureError:
            return None  # The change was made all the same.
        assert isinstance(answer, StateView)
        return answer

    def _place(self, service: str, key: str) -> _Place:
        """Where an object lives. Raises AdminRequestError or NoSuchResourceError."""
        manager = self._view.manager
        kind = manager.targets.kind(service)
        if kind is ServiceKind.SERVICE:
            raise AdminRequestError(
                f"{service} is a plain service, which has no state; objects and workflows have"
            )
        if kind is None:
            keyed = [
                name
                for name in manager.targets.service_names()
                if manager.targets.kind(name) is not ServiceKind.SERVICE
            ]
            raise NoSuchResourceError(
                f"no deployment offers an object or workflow {service[:_TEXT_SHOWN]!r}; there are: "
                f"{', '.join(keyed[:20]) or 'none at all'}"
            )
        if len(key.encode()) > CALLED_KEY_BYTES_MAX:
            raise AdminRequestError(f"a key has {CALLED_KEY_BYTES_MAX} bytes at most")
        partition_key = keyed_partition_key(key)
        processor = manager.processor_for(PartitionKey(partition_key))
        return _Place(processor, partition_key.to_bytes(8, "big"), service, key)

    def _holder(self, place: _Place) -> RelatedView | None:
        lock = place.processor.transaction.lock(place.partition_key, place.object_name)
        return None if lock is None else related(self._view.manager, lock.holder, "lock")


async def _operate(partition: Partition, command: PatchState, wait_seconds: float) -> str:
    """The outcome, `QUEUED` if its turn has not come in time."""
    loop = asyncio.get_running_loop()
    first: Future[str] = loop.create_future()
    turn: Future[str] = loop.create_future()

    def on_first(outcome: str | PerdureError) -> None:
        _settle(first, outcome)

    def on_turn(outcome: str | PerdureError) -> None:
        _settle(turn, outcome)

    clients = partition.clients
    clients.await_turn(on_first, on_turn)
    try:
        partition.operate(command, on_first)
        outcome = await first
        if outcome == outcomes.QUEUED and wait_seconds:
            try:
                async with asyncio.timeout(wait_seconds):
                    return await turn
            except TimeoutError:
                return outcome
        return outcome
    finally:
        clients.forget_turn(on_first, on_turn)


def _settle(future: "Future[str]", outcome: str | PerdureError) -> None:
    if future.done():
        return
    if isinstance(outcome, PerdureError):
        future.set_exception(outcome)
        # Whoever waited may be gone, and then nobody looks.
        future.exception()
    else:
        future.set_result(outcome)


def _version(text: str | None) -> bytes | None:
    """Raises AdminRequestError."""
    if text is None:
        return None
    try:
        version = bytes.fromhex(text)
    except ValueError:
        version = b""
    if len(version) != _VERSION_BYTES:
        raise AdminRequestError(
            f"version={text[:_TEXT_SHOWN]!r} is not taken: give the {2 * _VERSION_BYTES} "
            "hexadecimal digits that GET /state shows"
        )
    return version


def _changes(body: StateBody) -> tuple[tuple[bytes, bytes | None], ...]:
    """Raises AdminRequestError."""
    if len(body.changes) > CHANGES_MAX or not (body.changes or body.replace):
        raise AdminRequestError(f"changes has {len(body.changes)} items: give 1 to {CHANGES_MAX}")
    changes = {change.name.encode(): _value(change) for change in body.changes}
    if len(changes) < len(body.changes):
        raise AdminRequestError("changes names an entry twice; name it once")
    return tuple(changes.items())


def _value(change: StateChange) -> bytes | None:
    """The new value, None for none any more. Raises AdminRequestError."""
    name = change.name[:_TEXT_SHOWN]
    if (bool(change.json) + (change.base64 is not None) + change.clear) != 1:
        raise AdminRequestError(f"{name!r} needs one of json, base64 and clear")
    if change.clear:
        return None
    if change.base64 is None:
        value = bytes(change.json)
        assert is_json(value), "JSON in JSON is JSON"
    else:
        try:
            value = base64.b64decode(change.base64, validate=True)
        except binascii.Error:
            raise AdminRequestError(f"base64 of {name!r} is not base64") from None
    if len(value) > ENTRY_BYTES_MAX:
        raise AdminRequestError(
            f"the value of {name!r} has {len(value)} bytes; {ENTRY_BYTES_MAX} are the most"
        )
    return value
