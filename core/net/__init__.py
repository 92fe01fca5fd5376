"""The Transport port and its adapters: ``grpc`` between processes, ``inproc`` within one."""
