"""The moves of an invocation's life that several commands share: start, wake, fail, complete."""
