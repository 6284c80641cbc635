"""Comparison with another trainer: `python -m studio.benchmark gpu --peer SCRIPT --peer-python PYTHON -- ARGUMENTS`.

Both train on the same base and images, in turns. A turn is a whole program with few or with many steps; the difference of the two times,
divided by the difference of the steps, is the time of a step without the start. {base}, {images}, {output}, {steps}, {rank} and {side} in the
arguments are filled in; {steps} is required. Any script works that trains for {steps} steps and then ends, such as those of diffusers:

    -- --pretrained_model_name_or_path {base} --instance_data_dir {images} --instance_prompt "a house" --output_dir {output}
       --max_train_steps {steps} --rank {rank} --resolution {side} --train_batch_size 1 --mixed_precision bf16

Keys of the JSON line: ours_ms_per_step, peer_ms_per_step, ratio (peer / ours: above 1 we are faster), ours_seconds and peer_seconds (of every
turn with many steps), steps.
"""

import json
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from studio import families
from studio.benchmark.cases.bases import PROMPT, make_run, real_families, real_offer, saved_base
from studio.benchmark.cases.case import Machine
from studio.core import platform
from studio.core.workspace import new_id
from studio.families.base import Family
from studio.families.facts import BaseFolder

FEW, MANY = 10, 60
ROUNDS = 2
PLACES = ("base", "images", "output", "steps", "rank", "side")
Turn = Callable[[int], float]
"""Trains for a number of steps and returns the seconds of the whole program."""


def compare(
    machine: Machine,
    script: Path,
    python: str,
    family_name: str,
    arguments: list[str],
    few: int = FEW,
    many: int = MANY,
    rounds: int = ROUNDS,
) -> int:
    """Print the table and the JSON line; exit status 2 if the arguments cannot be used."""
    known = [family.name for family in real_families()]
    if family_name not in known:
        print(f"--peer-family is {family_name!r}; there are models of real size of: {', '.join(known)}.")
        return 2
    if not any("{steps}" in argument for argument in arguments):
        print("The peer's arguments lack {steps}, the number of its training steps. Put them after --, such as: -- --max_train_steps {steps}")
        return 2
    family = families.get(family_name)
    base, pixels = saved_base(machine, family, "real"), real_offer(family).resolution
    turns: dict[str, Turn] = {
        "ours": lambda steps: train_ours(machine, family, base, pixels, steps),
        "peer": lambda steps: train_peer(machine, [python, str(script), *arguments], base, pixels, steps),
    }
    seconds: dict[str, dict[int, list[float]]] = {name: {few: [], many: []} for name in turns}
    for _ in range(rounds):
        for steps in (few, many):
            for name, turn in turns.items():
                taken = turn(steps)
                seconds[name][steps].append(round(taken, 2))
                print(f"{name}, {steps} steps: {taken:.1f} s", flush=True)
    per_step = {name: (statistics.median(found[many]) - statistics.median(found[few])) / (many - few) for name, found in seconds.items()}
    figures = {f"{name}_ms_per_step": round(value * 1000, 1) for name, value in per_step.items()}
    output = {
        **figures,
        "ratio": round(per_step["peer"] / per_step["ours"], 2),
        **{f"{name}_seconds": found[many] for name, found in seconds.items()},
        "steps": [few, many],
    }
    table = Table("figure", "measured", title=f"{script.name} beside the studio")
    for key, value in output.items():
        table.add_row(key, str(value))
    Console().print(table)
    print(json.dumps(output), flush=True)
    return 0


def train_ours(machine: Machine, family: Family, base: BaseFolder, pixels: int, steps: int) -> float:
    """A run of the studio that chooses everything itself."""
    changed = (f"training.max_train_steps={steps}", f"samples.every={steps}", f"saving.checkpoint_every={steps}", "lora.rank=16")
    run = make_run(machine, new_id("peer"), family, base, pixels, *changed)
    return timed(platform.module_command("studio.training.loop", run.path), run.path / "log", platform.environment())


def train_peer(machine: Machine, command: list[str], base: BaseFolder, pixels: int, steps: int) -> float:
    """The peer's script with its arguments filled in, and a new output folder."""
    side = machine.side(pixels)
    output = machine.folder / new_id("peer")
    output.mkdir()
    values = {"base": base.path, "images": captioned_images(machine, side), "output": output, "steps": steps, "rank": 16, "side": side}
    # In the environment as it is: with the studio's PYTHONPATH it could import the studio's packages.
    return timed([fill(part, values) for part in command], machine.folder / "peer.log")


def fill(argument: str, values: dict) -> str:
    """An argument with its places filled in; other braces stay."""
    for place in PLACES:
        argument = argument.replace(f"{{{place}}}", str(values[place]))
    return argument


def captioned_images(machine: Machine, side: int) -> Path:
    """The folder of the images, which our first turn has made, with a text file per image as most trainers read them."""
    folder = machine.folder / f"images-{side}"
    for image in folder.glob("*.png"):
        image.with_suffix(".txt").write_text(PROMPT)
    return folder


def timed(command: list[str], log: Path, environment: dict[str, str] | None = None) -> float:
    """Seconds of a whole program; SystemExit with the end of its output if it fails."""
    began = time.perf_counter()
    with open(log, "wb") as output:
        code = subprocess.run(command, env=environment, stdout=output, stderr=output).returncode
    if code:
        raise SystemExit(f"{shlex.join(command)} ended with code {code}: {log.read_text(errors='replace')[-1000:]}")
    return time.perf_counter() - began
