"""An app file that cannot be imported."""

raise RuntimeError("the database is not there")
