"""What a test fails with when the kit, and not the test itself, finds something wrong."""


class TestingFailure(AssertionError):
    """Something is wrong that no assertion of the test has looked at."""

    __test__ = False  # for pytest, which collects classes by their names


class StalledError(TestingFailure):
    """Everything waits and nothing that could wake it is left, not even a timer."""


class ReplayMismatchError(TestingFailure):
    """A handler did other things in a replay of its journal than when the journal was written."""


class CrashMismatchError(TestingFailure):
    """With a crash on the way a scenario came to another end than without."""
