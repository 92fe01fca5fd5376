"""Hashes that decide placement and identity; needs the ``server`` extra (xxhash)."""

from typing import Final

import xxhash

from .ids import InvocationId, PartitionKey, idempotent_part, workflow_part

UNKEYED_BUCKETS: Final = 512
_SEPARATOR: Final = b"\xff"


def keyed_partition_key(key: str) -> PartitionKey:
    """The partition key of everything addressed to `key`, whatever its service."""
    return PartitionKey(xxhash.xxh3_64_intdigest(key.encode() + _SEPARATOR))


def unkeyed_partition_key(service: str, bucket: int) -> PartitionKey:
    """The partition key of an invocation without key; `bucket` is below UNKEYED_BUCKETS."""
    return PartitionKey(
        xxhash.xxh3_64_intdigest(
            service.encode()
            + _SEPARATOR
            + b"unscoped/service"
            + _SEPARATOR
            + bucket.to_bytes(8, "little")
        )
    )


def idempotency_bucket(idempotency_key: str) -> int:
    """The bucket that an unkeyed invocation with an idempotency key goes to."""
    return xxhash.xxh3_64_intdigest(idempotency_key.encode() + _SEPARATOR) % UNKEYED_BUCKETS


def idempotent_invocation_id(
    service: str, key: str | None, handler: str, idempotency_key: str
) -> InvocationId:
    """The invocation that a request with an idempotency key is."""
    if key is not None:
        partition_key = keyed_partition_key(key)
    else:
        partition_key = unkeyed_partition_key(service, idempotency_bucket(idempotency_key))
    unique = idempotent_part(service, key, handler, idempotency_key)
    return InvocationId(partition_key.to_bytes(8, "big") + unique)


def workflow_invocation_id(workflow: str, key: str) -> InvocationId:
    """The run of a workflow under a key."""
    return InvocationId(keyed_partition_key(key).to_bytes(8, "big") + workflow_part(workflow, key))


def key_hash(*parts: bytes) -> bytes:
    """16 bytes that name a record key, such as ``key_hash(b"object", service, key)``."""
    return xxhash.xxh3_128_digest(_SEPARATOR.join(parts))
