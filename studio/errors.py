"""The one error that reaches people: a sentence with what happened, the value, what is allowed, what to do."""


class StudioError(Exception):
    """A sentence a user can act on. It is shown as it stands; every other exception is a bug and keeps its traceback."""
