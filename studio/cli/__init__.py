"""The studio without a browser: `python -m studio --help`."""
