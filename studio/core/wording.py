"""Wording of numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """ "1 step", "1,500 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
