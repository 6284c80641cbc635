"""Paths of the built-in files: the base model, its captioner, the starter LoRAs and the sample images.

README.md beside this file is the model card with its scores; `python -m studio.making.train` trains them.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL_DIR = HERE / "model"
CAPTIONER_DIR = HERE / "captioner"
LORAS_DIR = HERE / "loras"
SAMPLES = {"style": HERE / "samples" / "style", "character": HERE / "samples" / "character"}
TRIGGER_WORDS = {"style": "ohwx", "character": "sks", "dusk": "tok"}
"""Trigger words of the starter LoRAs: three common rare tokens."""

RESOLUTION = 128
"""Native resolution of the built-in model, in pixels."""
