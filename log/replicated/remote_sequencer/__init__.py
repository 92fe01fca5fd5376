"""A replicated loglet whose offsets another node gives out than the one that leads the log.

Who leads admits appends, numbers them and acts on them, wherever they are put in order. Its records
go to the node that the segment names as its sequencer, which spreads them to the log-servers.
"""
