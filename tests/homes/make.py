"""A home as this version of the studio leaves it: `python -m tests.homes.make` writes tests/homes/<version>.tar.xz.

Run it once a version, before its release, on Linux; it takes two minutes.
`tests/test_old_homes.py` opens every such home with every later version. It is an archive because it has 300 files, nearly all of them
tensors, images and a database, which nobody can review as text. facts.json in it is what this version reads in the home; a later version
must read the same.

facts.json  models/tiny-model/  home/{studio.db, owners/local/}     the base is "~/models/tiny-model", so the archive opens in any folder
"""

import os

from tests.homes.training import PINNED, roots

os.environ.update(PINNED)

import contextlib
import importlib.metadata
import itertools
import json
import logging
import platform
import shutil
import signal
import sqlite3
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers.utils import convert_state_dict_to_kohya
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from studio import __version__
from studio import config as configs
from studio.benchmark.tiny import save_tiny_model
from studio.config import optimizers
from studio.config.optimizers import OPTIMIZERS
from studio.config.recipe import Recipe, StackEntry, read_recipe
from studio.core.workspace import Home
from studio.datasets.dataset import Dataset
from studio.families import get, resolve_base
from studio.jobs import launch
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import DEVICE_KINDS, Job, Jobs
from studio.jobs.worker import Worker
from studio.runs import library, starting_points, trash
from studio.runs.run import Run
from tests.tiny import lora_tensors, optimizer_settings, save_lora

BASE = "~/models/tiny-model"
COMPUTING = sorted({"torch", "numpy", "diffusers", "transformers", "peft", *(entry.package for entry in OPTIMIZERS)})
"""Packages whose version decides over the bytes of a training."""
STEPS, SAFE = 6, 3
SETTINGS = {
    "model": {"base_model": BASE},
    "dataset": {"resolution": 64, "trigger_word": "ohwx", "caption_dropout": 0.2, "flip": True},
    "lora": {"rank": 1, "alpha": 2.0},
    "training": {"max_train_steps": STEPS, "train_batch_size": 2, "learning_rate": 1e-2},
    "samples": {"prompts": [], "every": STEPS, "num_inference_steps": 2},
    "saving": {"checkpoint_every": SAFE},
    "runtime": {"threads": 1, "device": "cpu"},
}
FEW_LAYERS = "lora.target_modules=['to_q', 'to_v']"
"""A resume state is the largest part of the archive; runs whose layers do not matter teach a few."""
SAMPLES = ("samples.prompts=['[trigger] picture of a cat']",)
EXTRAS = (
    ("lora.dropout=0.1", "training.ema_decay=0.9", "training.lr_scheduler=cosine", "training.lr_warmup_steps=2", *SAMPLES),
    ("training.gradient_accumulation_steps=2", FEW_LAYERS),
    ("validation.pictures=1", "validation.every=2", FEW_LAYERS),
    ("lora.method=dora", FEW_LAYERS),
)
"""What runs have besides their optimizer, in turns, so that more of the engine is resumed than its plainest form."""
RUNS = {entry.name: (*optimizer_settings(entry), *extras) for entry, extras in zip(OPTIMIZERS, itertools.cycle(EXTRAS))}
"""Optimizer -> the settings of its runs."""


class Studio:
    """A home, its queue, and a worker in this process."""

    def __init__(self, root: Path):
        self.home = Home(root)
        self.workspace = self.home.workspace("local")
        self.jobs = Jobs(self.home.database)
        self.worker = Worker(self.home)

    def work(self, watch: Callable[[Job, Run], None] = lambda job, run: None) -> None:
        """Do all that waits. `watch` is called with the training and its run, again and again while it goes on."""
        while True:
            self.worker.run_once()
            if child := self.worker.training:
                watch(child.job, child.run)
                time.sleep(0.001)
            elif not self.jobs.queue(DEVICE_KINDS):
                return

    def do_direct(self, kind: str, payload: dict) -> dict:
        """An import or the like, in its own process."""
        job = self.jobs.start(self.jobs.submit("local", kind, payload))
        while self.jobs.get(job.id).unfinished:
            time.sleep(0.02)
        return self.checked(job, "done").result

    def draw(self, recipe: Recipe, state: str = "done") -> Job:
        job = self.jobs.submit("local", "generate", {"recipe": recipe.to_json(), "count": 1})
        self.work()
        return self.checked(job, state)

    def checked(self, job: Job, state: str) -> Job:
        job = self.jobs.get(job.id)
        assert job.state == state, f"job {job.id} ({job.kind}) is {job.state}: {job.error} {job.result}"
        return job

    def queue(self, dataset: Dataset, title: str, *overrides: str) -> tuple[Run, Job]:
        config = configs.build(SETTINGS, f"dataset.id={dataset.id}", *overrides)
        return launch.train(self.workspace, self.jobs, dataset, [TrainingRequest(config, title)])[0]

    def finish(self, dataset: Dataset, title: str, *overrides: str) -> Run:
        run, job = self.queue(dataset, title, *overrides)
        self.work()
        self.checked(job, "done")
        return run

    def kill(self, dataset: Dataset, title: str, *overrides: str) -> Run:
        """A run whose process dies right after its first resume state."""
        run, job = self.queue(dataset, title, *overrides)

        def watch(_: Job, watched: Run) -> None:
            if (watched.checkpoints_dir / f"step-{SAFE:06d}").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.worker.training.pid, signal.SIGKILL)

        self.work(watch)
        self.checked(job, "interrupted")
        return run

    def stop(self, dataset: Dataset, title: str, *overrides: str) -> Run:
        """A run that somebody stops after its first resume state."""
        run, job = self.queue(dataset, title, *overrides)

        def watch(_: Job, watched: Run) -> None:
            if (watched.checkpoints_dir / f"step-{SAFE:06d}").exists():
                self.jobs.cancel(job.id)

        self.work(watch)
        self.checked(job, "cancelled")
        return run


def make_base(folder: Path) -> None:
    """The tiny model with weights of 8 bits, kept in 32: what the archive holds of it is then small."""
    save_tiny_model(folder)
    for file in folder.rglob("*.safetensors"):
        save_file({name: eight_bits(weight) for name, weight in load_file(file).items()}, file, {"format": "pt"})


def eight_bits(weight: torch.Tensor) -> torch.Tensor:
    return weight.to(torch.float8_e4m3fn).to(weight.dtype) if weight.is_floating_point() else weight


def draw_pictures(folder: Path) -> list[dict]:
    """Six flat drawings in two shapes, a caption, and masks of two of them: uploads as the page hands them on."""
    folder.mkdir()
    for index, name in enumerate(("house", "boat", "tree", "cat", "hill", "lamp")):
        size = ((70, 70), (90, 54))[index % 2]
        image = Image.new("RGB", size, (250, 240, 220 - 20 * index))
        ImageDraw.Draw(image).ellipse((10, 8, 20 + 6 * index, 50), (40 * index, 120, 200 - 30 * index))
        image.save(folder / f"{name}.png")
        if name in ("house", "boat"):
            mask = Image.new("L", size, 0)
            ImageDraw.Draw(mask).rectangle((0, 0, 40, 40), 255)
            mask.save(folder / f"{name}-mask.png")
    (folder / "boat.txt").write_text("ohwx picture of a boat\n")
    return [{"path": f"{folder.name}/{path.name}", "name": path.name} for path in sorted(folder.iterdir())]


def fill_datasets(studio: Studio) -> Dataset:
    """Captions by file, captioner and hand, some taken back; a mask taken off and one put back; an image and a whole dataset removed."""
    dataset = Dataset.create(studio.workspace, "Ink drawings", "style", trigger_word="ohwx")
    studio.do_direct("import", {"dataset": dataset.id, "files": draw_pictures(Path("brought"))})
    job = studio.jobs.submit("local", "caption", {"dataset": dataset.id, "captioner": "builtin", "only_empty": True})
    studio.work()
    studio.checked(job, "done")
    ids = {picture.name: picture.id for picture in dataset.images}
    for name in ("house", "tree", "cat"):
        dataset.set_caption(ids[f"{name}.png"], f"ohwx a red {name}")
        dataset.set_caption(ids[f"{name}.png"], f"ohwx a blue {name}")
    dataset.undo_caption(ids["tree.png"])
    dataset.set_caption(ids["cat.png"], "ohwx a blue cat, größer 🐈")
    dataset.remove_mask(ids["house.png"])
    dataset.remove_mask(ids["boat.png"])
    dataset.undo_mask(ids["boat.png"])
    dataset.remove([ids["lamp.png"]])

    person = Dataset.create(studio.workspace, "Ana", "character", real_person=True, consent="Ana agreed by letter.", trigger_word="sks")
    files = [{"path": "brought/hill.png", "name": "hill.png"}, {"path": "brought/hill.png", "name": "hill again.png"}]
    studio.do_direct("import", {"dataset": person.id, "files": files})

    removed = Dataset.create(studio.workspace, "Removed drawings", "object")
    studio.do_direct("import", {"dataset": removed.id, "files": [{"path": "brought/cat.png", "name": "cat.png"}]})
    studio.workspace.remove(removed.path)
    return dataset


def fill_adapters(studio: Studio) -> dict[str, str]:
    """Two LoRAs that teach denoiser and text encoder, in the spelling of this version and in kohya's; title -> reference."""
    family = get("stable-diffusion")
    pipeline = family.load(resolve_base(BASE), torch.float32)
    folder = Path("adapters")
    folder.mkdir()
    found = {}
    for seed, title in enumerate(("Old spelling", "Kohya spelling")):
        tensors = lora_tensors(pipeline, rank=2, seed=seed)
        tensors |= lora_tensors(pipeline, rank=2, seed=seed + 10, targets=("q_proj", "k_proj", "v_proj", "out_proj"), part="text_encoder")
        tensors = {name: eight_bits(tensor) for name, tensor in tensors.items()}
        assert any(name.startswith("text_encoder.encoder.") for name in tensors)
        if title.startswith("Old"):
            save_lora(folder / f"{title}.safetensors", tensors, rank=2)
        else:
            spelled = {name.replace("text_encoder.", "text_encoder.text_model.", 1): tensor for name, tensor in tensors.items()}
            # diffusers numbers the text encoder, as kohya does where there are two; of one it says te alone.
            kohya = {name.replace("lora_te1_", "lora_te_"): tensor for name, tensor in convert_state_dict_to_kohya(spelled).items()}
            kohya = {name: torch.tensor(1.0) if name.endswith(".alpha") else tensor.contiguous() for name, tensor in kohya.items()}
            assert any(name.startswith("lora_te_text_model_") for name in kohya)
            save_file(kohya, folder / f"{title}.safetensors", {"ss_network_alpha": "1", "ss_network_dim": "2"})
        path = f"{folder.name}/{title}.safetensors"
        (found[title],) = studio.do_direct("adapter", {"files": [{"path": path, "name": Path(path).name}]})["adapters"]
    return found


def fill_runs(studio: Studio, dataset: Dataset) -> dict[str, str]:
    """A finished run and one interrupted in its middle of every optimizer, and of a text encoder; interrupted id -> id of the finished one."""
    same = {}
    for optimizer, overrides in RUNS.items():
        finished = studio.finish(dataset, f"{optimizer}, finished", *overrides)
        interrupt = studio.stop if optimizers.get(optimizer).has_modes else studio.kill
        same[interrupt(dataset, f"{optimizer}, interrupted", *overrides).id] = finished.id
    overrides = ("lora.text_encoder=true", "saving.dtype=float16", *SAMPLES)
    finished = studio.finish(dataset, "Text encoder, finished", *overrides)
    same[studio.kill(dataset, "Text encoder, interrupted", *overrides).id] = finished.id

    failed, job = studio.queue(dataset, "Failed", "model.base_model=~/models/gone")
    studio.work()
    studio.checked(job, "failed")
    studio.workspace.remove(studio.finish(dataset, "Removed run", "training.max_train_steps=1", FEW_LAYERS).path)
    return same


def fill_images(studio: Studio, adapters: dict[str, str], run: Run) -> None:
    """By the tiny base with three LoRAs and alone, and by the built-in one with a starter; and one that could not be drawn."""
    stack = [
        library_entry(studio, f"run:{run.id}", 1.0),
        library_entry(studio, adapters["Old spelling"], 0.8),
        library_entry(studio, adapters["Kohya spelling"], 0.7),
    ]
    tiny = Recipe(prompt="ohwx a red house", base_model=BASE, num_inference_steps=3, seed=11)
    for recipe in (
        tiny.model_copy(update={"stack": stack}),
        tiny.model_copy(update={"negative_prompt": "blue"}),
        Recipe(prompt="a red house", num_inference_steps=3, width=64, height=64, stack=[library_entry(studio, "starter:style", 0.9)]),
    ):
        studio.draw(recipe)
    studio.draw(tiny.model_copy(update={"stack": [StackEntry(adapter="file:gone")]}), "failed")


def library_entry(studio: Studio, ref: str, weight: float) -> StackEntry:
    return library.stack_entry(studio.workspace, ref, weight)


def fill_presets(studio: Studio) -> None:
    for title, learning_rate in (("Ink, slow", 1e-3), ("Removed preset", 1e-2)):
        config = configs.build(SETTINGS, f"training.learning_rate={learning_rate}", "lora.rank=8", *SAMPLES)
        preset = starting_points.save(studio.workspace, title, config)
    starting_points.remove(studio.workspace, preset.name)


def fill_queue(studio: Studio, dataset: Dataset, text: Run) -> None:
    """A waiting run of every optimizer and one that starts from a LoRA with a text encoder, in another order than they came; one taken out."""
    waiting = {}
    for optimizer, overrides in RUNS.items():
        waiting[optimizer] = studio.queue(dataset, f"{optimizer}, waiting", *overrides)[1]
    going_on = ("lora.text_encoder=true", f"lora.start_from=run:{text.id}", "training.max_train_steps=2", "samples.every=2")
    waiting["start"] = studio.queue(dataset, "Going on, waiting", *going_on)[1]
    _, taken_out = studio.queue(dataset, "Taken out", "training.seed=8")
    studio.jobs.cancel(taken_out.id)
    studio.jobs.submit("local", "generate", {"recipe": Recipe(prompt="a boat").to_json(), "count": 2})
    studio.jobs.move(waiting["start"].id, "first")
    studio.jobs.move(waiting["adamw"].id, "down")


def read_facts(studio: Studio, same: dict[str, str]) -> dict:
    """What this version reads in the home, in plain values."""
    workspace = studio.workspace
    return {
        "version": __version__,
        "machine": platform.machine(),
        "packages": dict(installed()),
        "roots": roots(),
        "datasets": {dataset.id: read_dataset(dataset) for dataset in Dataset.all(workspace)},
        "removed": [{"title": title, "kind": each.original.parent.name, "name": each.original.name} for each, title in trash.list_removed(workspace)],
        "runs": {run.id: read_run(run, same) for run in Run.all(workspace)},
        "adapters": {
            card.ref: {"title": card.title, "source": card.source, "family": card.family, "width": card.width, "rank": card.rank}
            | {"alpha": card.alpha, "base_model": card.base_model, "trigger_words": card.trigger_words, "sha256": card.sha256}
            for card in library.list_adapters(workspace)
            if card.source != "starter"
        },
        "images": {path.stem: read_recipe(path.read_bytes()).model_dump() for path in sorted(workspace.images.glob("*.png"))},
        "presets": {
            preset.name: {"title": preset.title, "values": starting_points.find(workspace, preset.name).values}
            for preset in starting_points.saved_presets(workspace)
        },
        "jobs": [read_job(job) for job in studio.jobs.list(limit=1000)],
        "queue": [job.id for job in studio.jobs.queue()],
    }


def installed() -> Iterator[tuple[str, str]]:
    for package in COMPUTING:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield package, importlib.metadata.version(package)


def read_dataset(dataset: Dataset) -> dict:
    """What is there now, and last what undo brings back, on a copy."""
    facts = {key: dataset.facts[key] for key in ("title", "subject", "real_person", "consent", "trigger_word")}
    pictures = {picture.id: read_picture(picture) for picture in dataset.images}
    facts |= {"sha256": dataset.sha256(), "pictures": pictures, "removed": [picture.name for picture in dataset.removed]}
    with tempfile.TemporaryDirectory() as folder:
        copy = Dataset(shutil.copytree(dataset.path, Path(folder) / dataset.id))
        facts["undone"] = {id: {"caption": copy.undo_caption(id), "mask": stem(copy.undo_mask(id))} for id in pictures}
    return facts


def read_picture(picture) -> dict:
    facts = {name: getattr(picture, name) for name in ("name", "caption", "caption_source", "width", "height", "looks_like_photo")}
    return {**facts, "mask": stem(picture.mask)}


def stem(mask: Path | None) -> str | None:
    return mask.stem if mask else None


def read_run(run: Run, same: dict[str, str]) -> dict:
    return {
        "title": run.title,
        "state": run.state,
        "config": run.config.model_dump(mode="json"),
        "pictures": len(run.snapshot["pictures"]),
        "adapters": [step for step, _ in run.adapters()],
        "samples": {str(step): len(files) for step, files in run.samples().items()},
        "losses": {event["step"]: event["loss"] for event in run.curve()},
        "resumes_to": same.get(run.id),
    }


def read_job(job: Job) -> dict:
    return {name: getattr(job, name) for name in ("id", "owner", "kind", "state", "payload", "result", "error", "attempts")}


def pack(root: Path, archive: Path) -> None:
    """The home without logs, locks and files that only live while a process has the database open, and without the maker's user name."""

    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        temporary = item.name.endswith((".lock", "/lock", ".setup", ".db-wal", ".db-shm", "/logs"))
        return None if temporary else item

    with contextlib.closing(sqlite3.connect(root / "home" / "studio.db")) as database:
        # The write-ahead log into the one file that is packed.
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in ("facts.json", "models", "home"):
            tar.add(root / name, name, filter=plain)


def main() -> None:
    logging.disable(logging.WARNING)
    archive = Path(__file__).resolve().parent / f"{__version__}.tar.xz"
    if archive.exists():
        sys.exit(f"{archive.name} is there already, and later versions are tested on it; remove it only to make it anew with that very version.")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["HOME"] = os.environ["USERPROFILE"] = folder
        os.chdir(root)
        make_base(root / "models" / "tiny-model")
        studio = Studio(root / "home")
        dataset = fill_datasets(studio)
        adapters = fill_adapters(studio)
        same = fill_runs(studio, dataset)
        finished = {run.title: run for run in Run.all(studio.workspace)}
        fill_images(studio, adapters, finished["adamw, finished"])
        fill_presets(studio)
        fill_queue(studio, dataset, finished["Text encoder, finished"])
        (root / "facts.json").write_text(json.dumps(read_facts(studio, same), indent=1, sort_keys=True))
        pack(root, archive)
    print(f"{archive.name}: {archive.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
