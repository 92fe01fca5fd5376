"""The store on 1, 3 and 5 servers keeps the contract of every metadata store."""

import pytest

from ...conformance.metadata_store import MetadataStoreSuite
from ..history import Host
from .hosts import ServersHost


class TestOneServer(MetadataStoreSuite):
    """A single server."""

    histories = range(40)

    @pytest.fixture
    def host(self) -> Host:
        """Where it runs."""
        return ServersHost(1)


class TestThreeServers(MetadataStoreSuite):
    """Three servers."""

    histories = range(40)

    @pytest.fixture
    def host(self) -> Host:
        """Where it runs."""
        return ServersHost(3)


class TestFiveServers(MetadataStoreSuite):
    """Five servers."""

    histories = range(20)

    @pytest.fixture
    def host(self) -> Host:
        """Where it runs."""
        return ServersHost(5)
