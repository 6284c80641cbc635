"""Paths of what ships with the studio: the small model, its captioner, the starter LoRAs and the sample images.

README.md beside this file is their model card with the scores; `python -m studio.making.train` trains them.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL_DIR = HERE / "model"
CAPTIONER_DIR = HERE / "captioner"
LORAS_DIR = HERE / "loras"
SAMPLES = {"style": HERE / "samples" / "style", "character": HERE / "samples" / "character"}
TRIGGER_WORDS = {"style": "ohwx", "character": "sks", "dusk": "tok"}
"""The three classic words nobody uses for anything else, one a starter LoRA."""

RESOLUTION = 128
"""Side of every picture of the built-in world, in pixels."""
