"""Who lives: failure detection by heartbeats that travel through everybody, and by refusals.

`detector` decides and `peer` holds what it knows of each node; both are plain machines. `messages`
is what travels, `membership` the driver over the Transport port.
"""
