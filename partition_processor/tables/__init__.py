"""The partition store's tables. `keys` lists all of them; each has a file with its row."""
