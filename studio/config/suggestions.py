"""What fits pictures that nobody has tried yet: how long to learn, and what to draw while learning."""

import math

LOOKS_AT_A_STYLE = 300
LOOKS_AT_A_PICTURE = 60
STYLE_LIMITS, LIMITS = (600, 4000), (800, 2500)
FEWEST_STEPS = 100
"""Fewer changes of the LoRA than this learn little, however many pictures each of them looks at."""
QUICK = 0.5


def steps(pictures: int, subject: str, pace: str = "best", at_once: int = 1) -> int:
    """How many steps suit this many pictures; `at_once` is how many of them one step looks at (batch size x accumulation).

    A style lies in what the pictures share, so more of them add less and less: 300 looks times the root of their number, 25 pictures give 1,500
    (600 to 4,000). A character or an object has to be known from every side: 60 looks a picture, 25 give 1,500 too (800 to 2,500). Quick is
    half. These are estimates between what other trainers suggest; the film shows whether an earlier step was better.
    """
    if subject == "style":
        looks, (least, most) = LOOKS_AT_A_STYLE * math.sqrt(pictures), STYLE_LIMITS
    else:
        looks, (least, most) = LOOKS_AT_A_PICTURE * pictures, LIMITS
    wanted = min(max(looks, least), most) * (QUICK if pace == "quick" else 1) / at_once
    grain = 50 if wanted >= 500 else 10
    return max(FEWEST_STEPS, round(wanted / grain) * grain)


def because(pictures: int, steps: int) -> str:
    """Why a form shows this number."""
    return f"{pictures} picture{'' if pictures == 1 else 's'}: {steps:,} steps suggested. Too many copy them."


PROMPTS = {
    "style": (
        "[trigger] illustration of a red boat by the sea",
        "illustration of a red boat by the sea",
        "[trigger] illustration of a yellow umbrella at night",
    ),
    "character": ("a portrait of [trigger], soft light", "a portrait of a person, soft light", "[trigger] as an astronaut on the moon"),
    "object": ("[trigger] on a wooden table", "a cup on a wooden table", "[trigger] on a beach at sunset"),
}
"""For each subject a prompt with the trigger word, the same without it, and a scene no picture shows."""
