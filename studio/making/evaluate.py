"""Scores of the shipped models: `python -m studio.making.evaluate [--prompts 200] [--skip-loras] [--work DIR]`.

Classifiers (judges.py) score images of held-out combinations; they are trained first if missing, which takes half an hour on two cores.
Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from diffusers import StableDiffusionPipeline
from rich.console import Console
from rich.table import Table
from transformers import BlipForConditionalGeneration, BlipProcessor

from studio.builtin import CAPTIONER_DIR, MODEL_DIR
from studio.making import judges
from studio.making.drawing import draw
from studio.making.judges import NOTHING
from studio.making.scoring import generate
from studio.making.world import COLOURS, SETTINGS, THINGS, Scene, caption, held_out, sample

GOALS = {
    "thing": 0.95, "colour": 0.97, "background": 0.97, "both_things": 0.85, "caption": 0.95, "judge_accuracy": 0.99,
    "style_with_trigger": 0.90, "character_with_trigger": 0.90, "style_base": 0.05, "character_base": 0.05, "train_seconds": 120,
}  # fmt: skip
AT_MOST = ("style_base", "character_base", "train_seconds")


def load_pipeline(folder: Path = MODEL_DIR) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@dataclass(frozen=True)
class Obedience:
    """Shares of generated images that match their prompt."""

    thing: float
    colour: float
    background: float
    both_things: float


def obedience(scenes: list[Scene], found: np.ndarray) -> Obedience:
    """thing and colour: one-thing scenes; both_things (both in their places): two-thing scenes; background: all scenes."""
    thing, colour, background, both = [], [], [], []
    for scene, (left, right, left_colour, _, setting, _) in zip(scenes, found):
        background.append(setting == SETTINGS.index(scene.setting))
        expected = [THINGS.index(one.name) for one in scene.things]
        if len(expected) == 1:
            thing.append(left == expected[0] and right == NOTHING)
            colour.append(left_colour == COLOURS.index(scene.things[0].colour))
        else:
            both.append([left, right] == expected)
    return Obedience(*(float(np.mean(list_of)) if list_of else 0.0 for list_of in (thing, colour, background, both)))


def score_captioner(count: int = 500, folder: Path = CAPTIONER_DIR) -> float:
    """Share of unseen images whose generated caption equals the canonical caption exactly."""
    processor, model = BlipProcessor.from_pretrained(folder), BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    exact = 0
    for start in range(0, count, 50):
        rngs = [random.Random(f"unseen {index}") for index in range(start, min(start + 50, count))]
        scenes = [sample(rng) for rng in rngs]
        inputs = processor(images=[draw(scene, rng) for scene, rng in zip(scenes, rngs)], return_tensors="pt")
        with torch.inference_mode():
            written = processor.batch_decode(model.generate(**inputs, max_new_tokens=30), skip_special_tokens=True)
        exact += sum(text.strip() == caption(scene) for text, scene in zip(written, scenes))
    return exact / count


def default_work() -> Path:
    return Path(platformdirs.user_cache_dir("lora-studio")) / "builtin"


def table(scores: dict[str, float]) -> Table:
    shown = Table("score", "measured", "goal", "")
    for name, value in scores.items():
        goal = GOALS.get(name)
        met = "" if goal is None else "met" if (value <= goal if name in AT_MOST else value >= goal) else "missed"
        bound = "" if goal is None else f"{'<=' if name in AT_MOST else '>='} {goal:g}"
        shown.add_row(name, f"{value:.3f}", bound, met)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studio.making.evaluate", description=__doc__)
    parser.add_argument("--prompts", type=int, default=200, help="number of the 200 held-out prompts to use")
    parser.add_argument("--skip-loras", action="store_true", help="skip training and scoring the two sample LoRAs")
    parser.add_argument("--work", type=Path, default=default_work(), help="folder for the trained classifiers")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    console = Console()
    judge = judges.train(arguments.work)
    reliability = judges.reliability(judge)
    # Evenly spaced, so that a smaller number keeps the share of two-thing scenes.
    scenes = [held_out()[index * 200 // arguments.prompts] for index in range(arguments.prompts)]
    pipeline = load_pipeline()
    start = time.monotonic()
    images = generate(pipeline, [caption(scene) for scene in scenes], seed=1000)
    seconds = (time.monotonic() - start) / len(images)
    obeyed = obedience(scenes, judges.ask(judge, images))
    scores = {
        "thing": obeyed.thing,
        "colour": obeyed.colour,
        "background": obeyed.background,
        "both_things": obeyed.both_things,
        "caption": score_captioner(),
        "judge_accuracy": min(reliability.accuracy.values()),
        "judge_false_positive": reliability.false_positive,
        "seconds_per_image": seconds,
    }
    if not arguments.skip_loras:
        # Imported here: the sample LoRAs need the whole studio, the rest only this package.
        from studio.making import starters

        scores |= starters.evaluate(pipeline, judge, arguments.work)
    console.print(table(scores))
    console.print("Accuracy of the classifiers: " + ", ".join(f"{name} {value:.4f}" for name, value in reliability.accuracy.items()))
    console.out(json.dumps({name: round(value, 4) for name, value in scores.items()}), highlight=False)


if __name__ == "__main__":
    main()
