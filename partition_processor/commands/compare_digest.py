"""CompareDigest: the leader tells what it has come to."""

from ...log.types import Record
from ..context import ApplyContext
from ..digests import compare
from ..records import CompareDigest


def apply_compare_digest(context: ApplyContext, command: CompareDigest, _record: Record) -> None:
    """Change nothing. Raises DifferenceError where this replica has come to something else."""
    compare(context, command.lsn, command.digest)
