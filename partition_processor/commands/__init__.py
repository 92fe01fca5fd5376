"""The interpreter's commands, one file each; `machine` dispatches to them."""
