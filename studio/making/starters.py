"""Training of the three starter LoRAs with the studio itself, and the scores of the two whose sample sets ship."""

import random
import shutil
import time
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from studio import config
from studio.adapters.format import write_adapter
from studio.adapters.header import read_header
from studio.builtin import LORAS_DIR, TRIGGER_WORDS
from studio.core.workspace import Home, Workspace
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import decode_files
from studio.making import judges, samples
from studio.making.judges import Judge
from studio.making.scoring import generate, share_of_creature, share_of_ink
from studio.making.world import SETTINGS, caption, held_out, setting_phrase
from studio.runs.creation import create_run
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.loop import train as train_run

PRESETS = {"style": "small-world-style", "character": "small-world-character", "dusk": "small-world-style"}
RATES = {"style": 2e-3, "character": 1.5e-3, "dusk": 2e-3}
"""The starters are trained at rank 8, half of the presets' rank, so that they stay small; a smaller rank needs a higher learning rate."""
TITLES = {"style": "Ink", "character": "Pim", "dusk": "Dusk"}
IMAGES = 50


def dataset(workspace: Workspace, name: str) -> Dataset:
    """The shipped images; those of dusk are rendered here and imported like any user's images."""
    if name != "dusk":
        return Dataset.from_samples(workspace, name)
    made = Dataset.create(workspace, "Sample dusk", subject="style", trigger_word=TRIGGER_WORDS[name])
    with made.incoming() as folder:
        rendered = folder / "drawn"
        samples.write(name, rendered)
        files = [{"path": path, "name": path.name} for path in sorted(rendered.iterdir())]
        made.add(decode_files(files, folder), folder, source="sample")
    return made


def train_one(workspace: Workspace, name: str, *overrides: str) -> tuple[Run, float]:
    """The run and its duration in seconds, including samples."""
    images = dataset(workspace, name)
    settings = (f"dataset.id={images.id}", f"dataset.trigger_word={images.trigger_word}", *overrides)
    run = create_run(workspace, config.preset(PRESETS[name], *settings), images, TITLES[name])
    start = time.monotonic()
    with run.lock():
        train_run(run, Disk())
    return run, time.monotonic() - start


def fresh_workspace(folder: Path) -> Workspace:
    """A new, empty home inside the work folder; an earlier one is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    return Home(folder).workspace("local")


def train(folder: Path) -> None:
    """Save all three in loras/, in 16 bits: half the size without a visible difference. Next to each, sample images."""
    workspace = fresh_workspace(folder / "loras")
    LORAS_DIR.mkdir(exist_ok=True)
    for name in TITLES:
        run, _ = train_one(workspace, name, "lora.rank=8", f"training.learning_rate={RATES[name]}")
        adapter, samples_by_step = run.latest_adapter(), run.samples()
        assert adapter is not None, "A finished run has saved its LoRA."
        shutil.copyfile(samples_by_step[max(samples_by_step)][0], LORAS_DIR / f"{name}.png")
        matrices = {key: tensor.half() for key, tensor in load_file(adapter).items()}
        write_adapter(LORAS_DIR / f"{name}.safetensors", matrices, read_header(adapter).metadata)


def style_prompts(trigger: str) -> list[str]:
    scenes = held_out()[:: len(held_out()) // IMAGES][:IMAGES]
    return [f"{trigger}illustration of {caption(scene)}" for scene in scenes]


def character_prompts(trigger: str) -> list[str]:
    """Prompts with every setting in turn and three sizes; without a trigger word only the setting is named."""
    rng = random.Random(3)
    if not trigger:
        return [setting_phrase(SETTINGS[index % len(SETTINGS)]) for index in range(IMAGES)]
    return [f"{rng.choice(('', '', 'a small ', 'a large '))}{trigger}{setting_phrase(SETTINGS[index % len(SETTINGS)])}" for index in range(IMAGES)]


def evaluate(pipeline: StableDiffusionPipeline, judge: Judge, folder: Path) -> dict[str, float]:
    """Train both sample sets with their presets and score the results; train_seconds is that of the slower one."""
    questions = {"style": (style_prompts, share_of_ink), "character": (character_prompts, share_of_creature)}
    workspace, scores, seconds = fresh_workspace(folder / "evaluated"), {}, []
    for name, (prompts, share) in questions.items():
        word = f"{TRIGGER_WORDS[name]} "
        base = judges.ask(judge, generate(pipeline, prompts(word), seed=5000))
        run, took = train_one(workspace, name)
        seconds.append(took)
        pipeline.load_lora_weights(run.latest_adapter())
        scores[f"{name}_with_trigger"] = share(judges.ask(judge, generate(pipeline, prompts(word), seed=5000)))
        scores[f"{name}_without_trigger"] = share(judges.ask(judge, generate(pipeline, prompts(""), seed=5000)))
        scores[f"{name}_base"] = share(base)
        pipeline.unload_lora_weights()
    return {**scores, "train_seconds": max(seconds)}
