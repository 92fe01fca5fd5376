"""Perdure: a log-centric distributed runtime for durable Python.

The parts, from the ground floor up; a part imports only from floors below its own:

====== ======================== ===========================================================
floor  package                  what lives there
====== ======================== ===========================================================
0      ``proto``                wire messages; ``proto.generated`` is never edited
0      ``core``                 ids, errors, options, ports (clock, random, store, transport)
1      ``metadata``             the small linearizable store of versioned values
2      ``log``                  the partitioned log: records, batches, loglets, read streams
3      ``partition_processor``  the interpreter, its tables, the invoker, leadership
4      ``ingress``              gRPC and HTTP front doors
4      ``admin``                admin REST, metrics, the command line
5      ``node``                 the composition root
side   ``sdk``                  what users write with; imports ``proto`` and ``core`` only
6      ``testing``              virtual clock and in-process runtime, shipped to users
====== ======================== ===========================================================
"""

__version__ = "0.1.0"
