"""What node and worker both need to know of the wire: message types, envelope, manifest."""
