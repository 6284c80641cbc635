"""Training speed relative to the hardware's limit: `python -m studio.benchmark train --family NAME [--size tiny|small|real]`.

Arms take turns, so that other load slows all of them equally; figures are ratios of medians. The studio's arm is the training process
itself, with its data loading, events and checkpoints, paused between its turns by a pause request. The floor and the plain arm are
separate programs without imports from the studio.
"""

import argparse
import functools
import gc
import inspect
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from studio import config as configs
from studio import families
from studio.benchmark.arms import Arm, Program, Studio
from studio.benchmark.models import SIZES, makers, save_random
from studio.benchmark.tiny import TinyDataset
from studio.config import TrainConfig
from studio.core.workspace import Home
from studio.devices import runtime
from studio.devices.measure import count_base_parameters, forward_once, inject_lora, meta_denoiser_of
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.padding import without_padding
from studio.runs.creation import create_run
from studio.runs.run import Run

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from studio.families.base import Conditions

RESOLUTIONS = {"tiny": 64, "small": 256}
PROMPT = "ohwx a red house"
ENDLESS = 100_000
GPU_TFLOPS = {"H100": 790, "H200": 790}
"""Measured speed of large 16-bit matrix products on these GPUs, in 10^12 operations per second."""
PLAIN = ("stable-diffusion", "sdxl", "flux")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m studio.benchmark train", description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="stable-diffusion", choices=[family.name for family in families.FAMILIES])
    parser.add_argument("--size", default="small", choices=SIZES, help="tiny, small (one second per step on one core) or real")
    parser.add_argument("--rounds", type=int, default=3, help="number of turns of each arm (default 3)")
    parser.add_argument("--steps", type=int, default=8, help="steps per turn (default 8)")
    parser.add_argument("--batch", type=int, default=1, help="batch size (default 1)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--resolution", type=int, help="image size in pixels (default: depends on --size)")
    parser.add_argument("--without-plain", action="store_true", help="skip the plain arm")
    options = parser.parse_args(argv)
    family = families.get(options.family)
    if options.size not in vars(makers(family)):
        parser.error(f"{family.title} has no model of size {options.size!r}; choose tiny")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(family, options, Path(folder))
    show(figures)


def measure(family: Family, options: argparse.Namespace, folder: Path) -> dict:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base_dtype = torch.bfloat16 if device == "cuda" and options.size == "real" else torch.float32
    base = families.resolve_base(str(save_random(family, options.size, folder / "base", base_dtype)))
    side = options.resolution or RESOLUTIONS.get(options.size) or family.resolution(base)
    workspace = Home(folder / "home").workspace("bench")
    dataset = TinyDataset(folder / "pictures", sizes=((side, side),))
    runs, auto = {}, runtime.precision(device, count_base_parameters(family, base), family.float16)[0]
    # The losses of the first are compared with those of the last: not compiled, and on a CPU not rounded to 16 bits either.
    variants = {auto: (auto, None), "float32": ("float32", "eager")} if device == "cpu" else {auto: (auto, None), "eager": (auto, "eager")}
    for name, (dtype, how) in variants.items():
        runs[name] = create_run(workspace, settings(family, base, options, side, device, dtype, how), dataset, name)

    plain = family.name in PLAIN and not options.without_plain
    plan = recorded_call(family, base, runs[auto].config, folder, device, auto, options.batch)
    if device == "cuda":
        # The arms are processes of their own and need the memory.
        gc.collect()
        torch.cuda.empty_cache()
    arms: list[Arm] = []
    ways = ["eager", "compiled", "graph"] if device == "cuda" else ["eager"]

    def start_floor(how: str) -> Arm:
        return Program(f"floor {how}", "floor.py", write_plan(folder / how, plan | {"how": how}))

    def start_studio(name: str) -> Arm:
        return Studio(f"studio {name}", runs[name], folder / f"{name}.log")

    def start_plain() -> Arm:
        return Program("plain float32", "plain.py", write_plan(folder / "plain", plan))

    starters: list[tuple[str, Callable[[], Arm]]] = [(f"floor {how}", functools.partial(start_floor, how)) for how in ways]
    starters += [(f"studio {name}", functools.partial(start_studio, name)) for name in runs]
    starters += [("plain float32", start_plain)] if plain else []
    # On a CPU all arms run at once and take turns; a GPU lacks the memory for that, and has no other load.
    on_cpu = device == "cpu"
    console = Console(stderr=True)
    for name, start in starters:
        console.print(f"{name} ...")
        arms.append(start())
        if not on_cpu:
            for _ in range(options.rounds):
                arms[-1].take_turn(options.steps)
            arms[-1].end()
    if on_cpu:
        for _ in range(options.rounds):
            for arm in arms:
                arm.take_turn(options.steps)
        for arm in arms:
            arm.end()

    median = {arm.name: statistics.median(arm.seconds) for arm in arms}
    fastest = {arm.name: min(arm.seconds) for arm in arms}
    studio_seconds, floor = median[f"studio {auto}"], min(seconds for name, seconds in median.items() if name.startswith("floor"))
    studio = next(arm for arm in arms if isinstance(arm, Studio) and arm.name == f"studio {auto}")
    flops = step_flops(family, base, runs[auto].config) * options.batch
    peak = next((speed for name, speed in GPU_TFLOPS.items() if device == "cuda" and name in torch.cuda.get_device_name()), None)
    return {
        "family": family.name,
        "size": options.size,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "resolution": side,
        "batch": options.batch,
        "rank": options.rank,
        "dtype": auto,
        "execution": runs[auto].config.runtime.execution,
        "loss_distance_to_eager": float(f"{distance(*(losses(runs[name]) for name in (auto, list(runs)[-1]))):.2g}"),
        "seconds": {name: round(seconds, 4) for name, seconds in median.items()},
        "efficiency": round(floor / studio_seconds, 3),
        # On a shared machine the fastest step of each arm is the one without interference.
        "efficiency_of_quickest": round(min(seconds for name, seconds in fastest.items() if name.startswith("floor")) / fastest[f"studio {auto}"], 3),
        "vs_plain_same_precision": round(median["plain float32"] / median["studio float32"], 2) if plain and "studio float32" in median else None,
        "vs_plain_auto": round(median["plain float32"] / studio_seconds, 2) if plain else None,
        "tflop_a_step": round(flops / 1e12, 3),
        "model_flop_utilisation": round(flops / studio_seconds / peak / 1e12, 3) if peak else None,
        "peak_mb": round(studio.peak_mb) if studio.peak_mb else None,
        "first_step_seconds": round(studio.first_step_seconds, 1),
    }


def losses(run: Run) -> list[float]:
    return [step["loss"] for step in run.curve()]


def distance(losses_a: list[float], losses_b: list[float]) -> float:
    """Distance of two loss curves with the same batches and noise: mean |difference| divided by the mean loss, over common steps."""
    pairs = list(zip(losses_a, losses_b))
    return sum(abs(a - b) for a, b in pairs) / sum(abs(b) for _, b in pairs)


def settings(family: Family, base: BaseFolder, options: argparse.Namespace, side: int, device: str, dtype: str, how: str | None) -> TrainConfig:
    values = {
        "model": {"family": family.name, "base_model": str(base.path)},
        "dataset": {"resolution": side},
        "lora": {"rank": options.rank},
        "training": {"max_train_steps": ENDLESS, "train_batch_size": options.batch},
        "samples": {"every": ENDLESS},
        "saving": {"checkpoint_every": ENDLESS},
        "runtime": {"device": device, "dtype": dtype, "execution": how} | ({"threads": 1} if device == "cpu" else {}),
    }
    return configs.build(values)


def prompts_of_one_length(family: Family, pipeline: "DiffusionPipeline", batch: int) -> "Conditions":
    """The prompt for a batch as the studio trains prompts of one length: without padding, where the family masks it."""
    conditions = family.encode_prompts(pipeline, [PROMPT])
    if family.padding_mask:
        conditions = without_padding(conditions, family.padding_mask)
    return {name: torch.cat([rows] * batch) for name, rows in conditions.items()}


def recorded_call(family: Family, base: BaseFolder, config: TrainConfig, folder: Path, device: str, dtype: str, batch: int) -> dict:
    """Record one call of the denoiser during training as tensors and a plan, from which the other arms repeat it."""
    precision = torch.float32 if device == "cpu" else runtime.torch_dtype(dtype)
    pipeline = family.load(base, precision).to(device)
    denoiser = pipeline.components[family.denoiser_name]
    side, kept = config.dataset.resolution, {}

    def keep(module, arguments, named, output) -> None:
        names = list(inspect.signature(module.forward).parameters)
        kept.update({"arguments": {**dict(zip(names, arguments)), **named}, "output": output[0]})

    handle = denoiser.register_forward_hook(keep, with_kwargs=True)
    with torch.no_grad():
        latents, _ = family.encode_images(pipeline, torch.rand(batch, 3, side, side, device=device) * 2 - 1)
        height, width = latents.shape[2:]
        t = family.objective(pipeline, torch.device(device)).timesteps(torch.full((batch,), 0.5, dtype=torch.float64), (height, width)).to(device)
        family.predict(denoiser, latents, t, prompts_of_one_length(family, pipeline, batch))
        if not kept:
            # This family's predict runs the blocks itself; a call by the pipeline during generation is the same work.
            words = family.encode_prompts(pipeline, [PROMPT])
            family.draw(pipeline, words, words, (side, side), 1, 0.0, torch.Generator().manual_seed(0), lambda done, total: None)
    handle.remove()
    arguments = {name: value for name, value in kept["arguments"].items() if name != "return_dict"}
    output = kept["output"]
    tensors = {"target": torch.randn_like(torch.stack(output) if isinstance(output, list) else output)}
    plan = {
        "arguments": replace_tensors(arguments, tensors),
        "base": str(base.path),
        "part": family.denoiser_name,
        "class": family.denoiser_class,
        "targets": list(family.target_modules),
        "rank": config.lora.rank,
        "device": device,
        "dtype": dtype,
        "threads": 1 if device == "cpu" else torch.get_num_threads(),
        "batch": batch,
        "resolution": side,
        "prompt": PROMPT,
    }
    save_file(tensors, folder / "call.safetensors")
    return plan


def replace_tensors(value, tensors: dict[str, torch.Tensor]):
    """Nested lists and dicts for JSON, with every tensor replaced by its name."""
    if isinstance(value, torch.Tensor):
        name = f"tensor{len(tensors)}"
        tensors[name] = value.detach().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: replace_tensors(each, tensors) for key, each in value.items()}
    return [replace_tensors(each, tensors) for each in value] if isinstance(value, (list, tuple)) else value


def write_plan(folder: Path, plan: dict) -> Path:
    folder.mkdir()
    (folder / "call.json").write_text(json.dumps(plan))
    os.link(folder.parent / "call.safetensors", folder / "call.safetensors")
    return folder


def step_flops(family: Family, base: BaseFolder, config: TrainConfig) -> int:
    """Floating-point operations of forward and backward for one image, counted from shapes (torch's FlopCounterMode)."""
    from torch.utils.flop_counter import FlopCounterMode

    denoiser = meta_denoiser_of(family, base)
    inject_lora(denoiser, config, family)
    with FlopCounterMode(display=False) as counter:
        forward_once(family, denoiser, (config.dataset.resolution, config.dataset.resolution)).sum().backward()
    return counter.get_total_flops()


def show(figures: dict) -> None:
    goals = {"efficiency": ">= 0.97 (CPU), 0.90 (GPU)", "vs_plain_same_precision": ">= 1.35", "vs_plain_auto": ">= 2.8 (CPU with 16 bits)"}
    table = Table("figure", "measured", "goal", title="Train")
    for name, value in figures.items():
        if name == "seconds":
            for arm, seconds in value.items():
                table.add_row(f"{arm}: seconds per step", f"{seconds:.4f}", "")
        else:
            table.add_row(name, str(value), goals.get(name, ""))
    Console().print(table)
    sys.stdout.write(json.dumps(figures) + "\n")
