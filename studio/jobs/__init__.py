"""Job queue: every long operation is a row in SQLite, run by a process of its own or by the worker."""
