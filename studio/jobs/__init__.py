"""Everything long: a row in SQLite with a process behind it."""
