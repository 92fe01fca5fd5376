"""The tests: a folder per part, and the checks of the house itself at the top."""
