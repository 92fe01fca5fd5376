"""The partition processor: a deterministic interpreter of the log, and what makes its effects real.

``machine.apply`` turns one record into writes and effects; ``processor`` feeds it committed records
and, on the leader, hands the effects on; ``invoker`` runs user code on connected workers. Imports
``core``, ``metadata``, ``log`` and ``proto``.
"""
