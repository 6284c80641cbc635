"""Suggestions for a new dataset: number of steps and sample prompts."""

import math

EXPOSURES_STYLE = 300
EXPOSURES_PER_IMAGE = 60
STYLE_LIMITS, LIMITS = (600, 4000), (800, 2500)
FEWEST_STEPS = 100
"""Fewer optimizer steps than this train little, whatever the batch size."""
QUICK = 0.5


def steps(image_count: int, subject: str, pace: str = "best", effective_batch: int = 1) -> int:
    """Suggested steps for this many images; `effective_batch` is batch size x accumulation.

    A style is what the images share, so each further image adds less: 300 exposures times the square root of their number, 1,500 for 25 images
    (600 to 4,000). A character or an object has to be learned from every side: 60 exposures per image, 1,500 for 25 too (800 to 2,500).
    Quick is half. These are estimates within the range that other trainers suggest; the sample grid shows whether an earlier step was better.
    """
    if subject == "style":
        exposures, (least, most) = EXPOSURES_STYLE * math.sqrt(image_count), STYLE_LIMITS
    else:
        exposures, (least, most) = EXPOSURES_PER_IMAGE * image_count, LIMITS
    count = min(max(exposures, least), most) * (QUICK if pace == "quick" else 1) / effective_batch
    grain = 50 if count >= 500 else 10
    return max(FEWEST_STEPS, round(count / grain) * grain)


def explain_steps(image_count: int, steps: int) -> str:
    """Explanation of the suggested number, for the form."""
    return f"{image_count} image{'' if image_count == 1 else 's'}: {steps:,} steps suggested. Too many overfit."


PROMPTS = {
    "style": (
        "[trigger] illustration of a red boat by the sea",
        "illustration of a red boat by the sea",
        "[trigger] illustration of a yellow umbrella at night",
    ),
    "character": ("a portrait of [trigger], soft light", "a portrait of a person, soft light", "[trigger] as an astronaut on the moon"),
    "object": ("[trigger] on a wooden table", "a cup on a wooden table", "[trigger] on a beach at sunset"),
}
"""Per subject: a prompt with the trigger word, the same without it, and a scene that no training image shows."""
