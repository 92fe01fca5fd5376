"""The Transport port; ``tcp`` and ``grpc`` connect processes, ``inproc`` the parts of one."""

import os

# gRPC's core writes to stderr, past logging, whenever a peer goes away. It reads this when grpc is
# imported, so it stands here, where the adapter's own import comes later.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
