"""The training engine; `loop` reads top to bottom."""
