"""An object's state: its version, and changing it from outside."""

import xxhash

from .outcomes import DONE, VERSION_MISMATCH
from .records import PatchState
from .tables import keys
from .transaction import Transaction


def state_version(state: dict[bytes, bytes]) -> bytes:
    """16 bytes that tell one content of an object's state from another."""
    digest = xxhash.xxh3_128()
    for key in sorted(state):
        value = state[key]
        digest.update(b"%d %d " % (len(key), len(value)))
        digest.update(key)
        digest.update(value)
    return digest.digest()


def patch_state(transaction: Transaction, command: PatchState) -> str:
    """Change the state if it has the version expected; the outcome."""
    partition_key = command.partition_key
    object_name = keys.object_suffix(command.service, command.key)
    state = transaction.state_now(partition_key, object_name)
    if command.expected is not None and state_version(state) != command.expected:
        return VERSION_MISMATCH
    if command.replace:
        kept = {key for key, value in command.changes if value is not None}
        for key in sorted(state):
            if key not in kept:
                transaction.put_state(partition_key, object_name, key, None)
    for key, value in command.changes:
        transaction.put_state(partition_key, object_name, key, value)
    return DONE
