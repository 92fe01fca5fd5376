"""The provider ``replicated``: each batch on several log-servers; and the log-server itself.

Imports what `log` imports. `docs/log.md` tells how it works, decision 0011 why it is so.
"""
