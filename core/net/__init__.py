"""The Transport port; ``tcp`` and ``grpc`` connect processes, ``inproc`` the parts of one.

``shortcut`` is one of the first two, and ``inproc`` for what a process wants of itself.
"""

import os

# gRPC's core writes to stderr, past logging, whenever a peer goes away. It reads this when grpc is
# imported, so it stands here, where the adapter's own import comes later.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
