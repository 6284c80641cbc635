"""File suffixes used by several layers."""

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Weights in Python's pickle format, which runs code when it is opened: rejected by suffix, never opened."""
