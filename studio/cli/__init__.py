"""Command line: `python -m studio --help`."""
