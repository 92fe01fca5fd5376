"""The ground floor: ids, errors, options, task scopes and the ports with their adapters.

Imports ``proto`` and nothing else of ours.
"""
