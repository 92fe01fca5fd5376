"""What a world raises when the product broke a promise."""


class InvariantViolation(AssertionError):
    """A promise of the product did not hold in a simulated world.

    Attributes:
        invariant: its name, the same for every seed that breaks it.
    """

    def __init__(self, invariant: str, detail: str) -> None:
        """Name the promise and say what was seen instead."""
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def require(holds: bool, invariant: str, detail: object) -> None:
    """Raise InvariantViolation unless `holds`."""
    if not holds:
        raise InvariantViolation(invariant, str(detail))
