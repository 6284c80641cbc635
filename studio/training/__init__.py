"""Training engine; start reading at `loop`."""
