"""Trains all shipped models from scratch: `python -m studio.making.train [--work DIR] [--only STAGE ...]`.

Each stage is seeded and resumes where it was stopped; finished stages are skipped. Takes hours on two CPU cores.
"""

import argparse
import ctypes
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from studio.builtin import CAPTIONER_DIR, MODEL_DIR
from studio.making import captioner, denoiser, export, pool, samples, text_encoder, vae
from studio.making.pool import SEED

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Constants from glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Tell glibc to keep large blocks it gets back. By default each big tensor is mapped and unmapped anew, and on two cores the kernel
    spent 60 % of all processor time on clearing those pages.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
            libc.mallopt(option, value)


def render_images(folder: Path) -> None:
    pool.make(folder, "other", pool.OTHER_IMAGES, SEED)
    pool.make(folder, "world", pool.WORLD_IMAGES, SEED)
    samples.write_all()


def train_vae(folder: Path) -> None:
    vae.train(folder, vae.STEPS, SEED)
    vae.finish(folder, vae.FINISH_STEPS, SEED)
    if not (folder / "latents.npy").exists():
        vae.encode_pool(folder)


def train_text(folder: Path) -> None:
    text_encoder.train(folder, text_encoder.STEPS, SEED)


def train_unet(folder: Path) -> None:
    denoiser.train(folder, denoiser.STEPS, SEED)
    export.write(folder, MODEL_DIR)


def train_captioner(folder: Path) -> None:
    captioner.train(folder, captioner.STEPS, SEED)
    captioner.write(folder, CAPTIONER_DIR)


def train_loras(folder: Path) -> None:
    # Imported here, because it needs the whole studio and the others need only this package.
    from studio.making import starters

    starters.train(folder)


STAGES: dict[str, Callable[[Path], None]] = {
    "pool": render_images,
    "vae": train_vae,
    "text": train_text,
    "unet": train_unet,
    "captioner": train_captioner,
    "loras": train_loras,
}


@dataclass(frozen=True)
class Arguments:
    work: Path
    only: list[str]
    threads: int


def parse(words: list[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(prog="python -m studio.making.train", description=__doc__)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(platformdirs.user_cache_dir("lora-studio")) / "builtin",
        help="folder for images, latents and resumable states (3 GB)",
    )
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE", help=f"stages to run, of: {', '.join(STAGES)}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="number of CPU threads")
    given = parser.parse_args(words)
    return Arguments(given.work, given.only, given.threads)


def main() -> None:
    arguments = parse()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    clock = arguments.work / "seconds.json"
    for name, run in STAGES.items():
        if name not in arguments.only:
            continue
        start = time.monotonic()
        run(arguments.work)
        seconds = json.loads(clock.read_text()) if clock.exists() else {}
        seconds[name] = round(seconds.get(name, 0) + time.monotonic() - start)
        clock.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
