"""The logs of one process: each is opened once, whoever asks for it."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable

from ..core.ids import LogId
from ..metadata.api import MetadataStore
from .chain import first_chain
from .chain_store import ChainStore
from .chain_view import OF_ONE_PROCESS, LogResources
from .elsewhere import Elsewhere
from .errors import UnknownLogError, UnknownProviderError
from .loglet import LogletProvider
from .sequencer import SequencerLimits
from .virtual_log import VirtualLog


class Logs:
    """Finds and makes logs. One object per process, metadata store and set of providers."""

    def __init__(
        self,
        *,
        metadata: MetadataStore,
        providers: Iterable[LogletProvider],
        loop: AbstractEventLoop,
        default_kind: str,
        limits: SequencerLimits | None = None,
        on_turn: Callable[[], None] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Keep chains in `metadata`; new logs begin with the provider `default_kind`.

        Args:
            on_turn: see `LogResources`; providers that commit call the same.
            elsewhere: takes appends to the nodes that order them; None where this one orders all.
        """
        self._metadata = metadata
        self._providers = {provider.kind: provider for provider in providers}
        self._default_kind = default_kind
        self._resources = LogResources(
            metadata=metadata,
            providers=self._providers,
            loop=loop,
            limits=limits,
            on_turn=on_turn,
        )
        self._elsewhere = elsewhere
        self._open: dict[LogId, VirtualLog] = {}
        if default_kind not in self._providers:
            raise UnknownProviderError(
                f"no provider of kind {default_kind!r}; there are "
                f"{', '.join(sorted(self._providers))}"
            )

    @property
    def kinds(self) -> list[str]:
        """The providers' kinds, sorted."""
        return sorted(self._providers)

    @property
    def shared(self) -> bool:
        """Whether there is a provider whose segments other processes can seal, too."""
        return any(kind not in OF_ONE_PROCESS for kind in self._providers)

    async def open(self, log: LogId, *, create: bool = False) -> VirtualLog:
        """The log of this number, made if it does not exist and `create` is set.

        To append to it, `lead` it. Raises UnknownLogError, CorruptChainError, StorageFormatError
        and what the metadata store raises. Cancelling is safe.
        """
        found = self._open.get(log)
        if found is not None:
            return found
        store = ChainStore(log, self._metadata)
        try:
            chain = await store.load()
        except UnknownLogError:
            if not create:
                raise
            params = self._providers[self._default_kind].params(log, 1, 0, 0)
            chain = await store.create(first_chain(self._default_kind, params))
        # Somebody else may have opened it while this waited.
        return self._open.setdefault(log, VirtualLog(log, chain, self._resources, self._elsewhere))

    def find(self, log: LogId) -> VirtualLog | None:
        """The log, if this process has opened it."""
        return self._open.get(log)

    def opened(self) -> list[VirtualLog]:
        """The logs that this process has opened, by number."""
        return [self._open[log] for log in sorted(self._open)]

    def fail(self, error: Exception) -> None:
        """Nothing more is taken or acknowledged; whoever waits is told."""
        for log in self._open.values():
            log.fail(error)
