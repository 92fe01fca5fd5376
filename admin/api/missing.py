"""What an answer for the whole cluster does not have, and why."""

import msgspec


class Missing(msgspec.Struct, frozen=True):
    """A part of the cluster that an answer says nothing about; asking again may have it.

    Attributes:
        node: who was to tell, None where nobody is known to lead the partitions.
        partitions: what is left out; none where it is not about partitions.
    """

    node: str | None
    partitions: list[int]
    code: str
    message: str
