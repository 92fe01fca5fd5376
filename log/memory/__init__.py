"""The provider ``memory``: loglets that live as long as the process, for tests and trials."""
