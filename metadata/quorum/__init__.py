"""The metadata store of a cluster: one agreed register per key on 1, 3 or 5 servers.

Imports `core` and the port's own files in `metadata`.
"""

from .acceptor import REGISTERS_MAX, Acceptor
from .configuration import Configuration, Member
from .errors import (
    MemberChangeError,
    NotProvisionedError,
    OutcomeUnknownError,
    QuorumNotReachedError,
    StrangerError,
)
from .members import MemberReport, MembersReport, MetadataServers
from .messages import SERVICE
from .proposer import Proposer, QuorumOptions
from .server import MetadataServer
from .store import QuorumMetadataStore

__all__ = [
    "REGISTERS_MAX",
    "SERVICE",
    "Acceptor",
    "Configuration",
    "Member",
    "MemberChangeError",
    "MemberReport",
    "MembersReport",
    "MetadataServer",
    "MetadataServers",
    "NotProvisionedError",
    "OutcomeUnknownError",
    "Proposer",
    "QuorumMetadataStore",
    "QuorumNotReachedError",
    "QuorumOptions",
    "StrangerError",
]
