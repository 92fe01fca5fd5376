"""Reading and writing the promises of a workflow key, for the entries that do."""

from ..tables import keys
from ..tables.promises import Promise, decode_promise, encode_promise
from .appending import Appending

REFUSAL = "only the handlers of workflows have promises"


def load(chunk: Appending, name: str) -> Promise:
    """The promise as it is; one that nobody has touched is open."""
    value = chunk.context.transaction.get(_row(chunk, name))
    return Promise(False, None, None) if value is None else decode_promise(value)


def store(chunk: Appending, name: str, promise: Promise) -> None:
    """Write the promise."""
    chunk.context.transaction.put(_row(chunk, name), encode_promise(promise))


def _row(chunk: Appending, name: str) -> bytes:
    return keys.PROMISES + chunk.partition_key + chunk.object_name + name.encode()
