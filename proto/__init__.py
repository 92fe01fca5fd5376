"""The wire: every ``.proto`` and, in ``generated``, what is made of them. Imports nothing of ours."""
