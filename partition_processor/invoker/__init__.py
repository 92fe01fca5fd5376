"""The invoker: runs attempts on connected workers. Effects come in, proposals to the log go out."""
