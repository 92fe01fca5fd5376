"""The composition root: options, identity, start and stop of one node. Imports every part below."""
