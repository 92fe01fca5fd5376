"""One suite per port: a class of tests that every implementation of the port is run through."""
