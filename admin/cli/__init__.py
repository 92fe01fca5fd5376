"""The command line: one file per command, all imports that cost time made when a command runs."""
