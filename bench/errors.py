"""What can go wrong in a benchmark run: exceptions that say what to do next."""


class BenchError(Exception):
    """A run that cannot go on. The text is one or more sentences for the terminal.

    `where` names the step in a few plain words; only that goes into the results file, because the
    text may quote a log with paths of this machine.
    """

    def __init__(self, text: str, where: str = "run") -> None:
        super().__init__(text)
        self.where = where


class MissingTool(BenchError):
    """Something must be installed before anything can be measured: exit status 2."""
