"""The Transport port and its adapters: ``tcp`` and ``grpc`` between processes, ``inproc`` within one."""

import os

# gRPC's core writes to stderr, past logging, whenever a peer goes away. It reads this when grpc is
# imported, so it stands here, where the adapter's own import comes later.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
