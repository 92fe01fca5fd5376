"""Failures between wire and tables."""

from ...proto.generated import service_protocol_pb2 as wire
from ..tables.invocations import Failure


def failure_of(message: wire.Failure) -> Failure:
    """A wire failure as it is stored."""
    metadata = tuple((entry.key, entry.value) for entry in message.metadata)
    return Failure(message.code, message.message, metadata)
