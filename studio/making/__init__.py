"""The code that trained and draws what ships in `studio.builtin`, and its judges."""
