"""A finished run made without training: real classes, a real (tiny) adapter file for the shipped base, samples and events."""

import atexit
import functools
import json
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from studio import builtin, config
from studio.config.recipe import PNG_SIGNATURE, Recipe, add_recipe
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import Decoded, decode_files
from studio.runs.creation import create_run
from studio.runs.run import Run

PROMPTS = ["ohwx illustration of a house", "a house", "ohwx illustration of a boat at sea"]
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def png(shade: int, size: int = 8) -> bytes:
    """A plain grey picture, the smallest honest PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + bytes([shade, shade, shade]) * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_tiny_adapter(path: Path, studio: dict | str, strength: float = 0.1) -> None:
    """Rank 4 on one attention layer of the shipped base, so that a plain pipeline loads it and draws something else."""
    width = json.loads((builtin.MODEL_DIR / "unet" / "config.json").read_text())["block_out_channels"][-1]
    tensors = {
        f"{LAYER}.lora_A.weight": numpy.full((4, width), strength, numpy.float32),
        f"{LAYER}.lora_B.weight": numpy.full((width, 4), strength, numpy.float32),
    }
    save_file(tensors, path, metadata={"format": "pt", "studio": studio if isinstance(studio, str) else json.dumps(studio)})


def write_large_adapter(path: Path, megabytes: int, metadata: dict[str, str] | None = None) -> None:
    """A LoRA of zeros of this size, a hole on the disk."""
    numbers = megabytes * 1000**2 // 8
    shapes = {f"{LAYER}.lora_A.weight": [1, numbers], f"{LAYER}.lora_B.weight": [numbers, 1]}
    header = {"__metadata__": metadata or {}}
    for index, (name, shape) in enumerate(shapes.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [4 * numbers * index, 4 * numbers * (index + 1)]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 8 * numbers)


@functools.cache
def decoded_pictures() -> tuple[Path, Decoded]:
    """Three pictures through the real decoder, whose process takes most of a second to start: once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="decoded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    brought = []
    for index in range(3):
        path = folder / f"brought-{index}.png"
        path.write_bytes(png(40 * index + 20, size=64))
        brought.append({"path": path, "name": path.name})
    return folder, decode_files(brought, folder)


def captioned_dataset(workspace: Workspace, subject: str, consent: str) -> Dataset:
    dataset = Dataset.create(workspace, "Secret holiday pictures", subject, real_person=bool(consent), consent=consent)
    kept, decoded = decoded_pictures()
    with dataset.incoming() as folder:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        dataset.add(decoded, folder, source="file")
    for index, picture in enumerate(dataset.images):
        dataset.set_caption(picture.id, "ohwx illustration" if index else "a picture", "hand")
    return dataset


def finished_run(workspace: Workspace, *overrides: str, title: str = "Ink", subject: str = "style", consent: str = "", steps=(100, 200)) -> Run:
    dataset = captioned_dataset(workspace, subject, consent)
    settings = (f"dataset.id={dataset.id}", "dataset.trigger_word=ohwx", f"dataset.subject={subject}", "training.max_train_steps=200", *overrides)
    run = create_run(workspace, config.build({"samples": {"prompts": PROMPTS}}, *settings), dataset, title)
    run.append({"kind": "started", "step": 0, "total": 200, "resumed": False, "time": 1000.0})
    for step in (0, *steps):
        (run.samples_dir / str(step)).mkdir()
        for index, prompt in enumerate(run.config.samples.prompts):
            recipe = Recipe(prompt=prompt.replace("[trigger]", "ohwx"), stack=[{"adapter": f"run:{run.id}@{step}", "weight": 1.0}])
            (run.samples_dir / str(step) / f"{index}.png").write_bytes(add_recipe(png(step % 251 + index), recipe))
    for step in steps:
        run.append({"kind": "step", "step": step, "loss": 0.1, "seconds_per_step": 0.3, "time": 1000 + step * 0.3})
        run.append({"kind": "adapter", "step": step, "file": run.adapter_at(step).name, "time": 1000 + step * 0.3})
        facts = {"trained_alpha": 16, "trigger_word": "ohwx", "base_model": run.config.model.base_model}
        facts["base_revision"] = run.config.model.revision
        write_tiny_adapter(run.adapter_at(step), facts, step / 1000)
    run.append({"kind": "finished", "step": steps[-1], "seconds": steps[-1] * 0.3, "time": 1000 + steps[-1] * 0.3})
    return run


def keep_state(run: Run, step: int) -> None:
    """A checkpoint to resume from, as far as extending a run looks at it."""
    folder = run.checkpoints_dir / f"step-{step:06d}"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
