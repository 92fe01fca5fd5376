"""The wire: every ``.proto`` and, in ``generated``, what is made of them. Imports only protobuf."""
