"""A small model of the replicated log around the real admission classes; see `world`."""
