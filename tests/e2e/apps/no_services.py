"""An app file that offers nothing."""

ANSWER = 42
