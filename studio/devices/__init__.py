"""What a device can do and what may be planned on it: the one place where that is decided."""
