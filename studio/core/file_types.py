"""Suffixes of files that more than one layer must know."""

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Weights in Python's pickle format, which runs code when it is opened: refused by name, never opened."""
