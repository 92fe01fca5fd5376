"""Perdure measured beside a named peer on the same machine, in one run, by the same code.

Run it with ``make bench`` or ``bench/run.sh --help``; ``bench/README.md`` says how to read it. It
drives installed programs over their public doors and imports nothing of the product.
"""
