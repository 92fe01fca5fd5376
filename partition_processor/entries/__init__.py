"""The journal's entries: what each frame from code means, one file per entry."""
