"""The ``local`` loglet: one node's disk, no network, one writer for all logs of the node."""
