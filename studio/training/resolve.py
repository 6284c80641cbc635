"""What is decided before the first step, by this machine and this moment: written into the run's config once, and read from there ever after."""

import shutil
from dataclasses import replace

from studio import families
from studio.config import TrainConfig, fields
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError
from studio.devices import measure, memory, runtime
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.objectives import FlowMatching, Objective, Shift
from studio.runs.run import Run
from studio.training import backends
from studio.training.batches import Batch
from studio.training.distributed import Team
from studio.training.optimizers import check_optimizer
from studio.training.parameters import Learner
from studio.training.samples import Film
from studio.training.step import Update

SPARE_BYTES = 50_000_000
MOST_LENT = 8
"""Of the files saved only to be drawn with while it learns, the newest stay: someone who drags sliders asks for hundreds."""


def settle(run: Run, team: Team) -> tuple[TrainConfig, BaseFolder, Family]:
    """The config with nothing left open but how steps are run, and the base that it names."""
    if not team.first:
        team.wait()
    config = run.config
    base = families.resolve_base(config.model.base_model, config.model.revision)
    family = families.from_folder(base, config.model.family)
    if config.lora.method == "lokr" and not family.reads_lokr:
        raise StudioError(f"diffusers reads no LoKr files of {family.title}; choose lora or dora.")
    check_optimizer(config.training)
    # Counted only while something hangs on it: a resume need not build a large base's shapes.
    undecided = None in (config.runtime.dtype, config.runtime.gradient_checkpointing, config.runtime.quantisation, config.runtime.offload)
    numbers = measure.count_base_parameters(family, base) if undecided else 0
    chosen, reasons = memory.resolve(runtime.resolve(config.runtime, numbers), numbers, config, base, family)
    decided = {"model.family": family.name, "model.revision": base.revision}
    settled = fields.replace(config, {**decided, **{f"runtime.{name}": value for name, value in chosen.model_dump().items()}})
    if team.first:
        if settled != config:
            _write(run, settled, reasons)
        team.wait()
    return settled, base, family


def settle_execution(run: Run, update: Update, batches: list[tuple[Batch, float]], rate: float, step: int, extra_batches: bool) -> TrainConfig:
    """Time the ways a card can run these steps, once in a run's life, and write the quickest down. `extra_batches`: some steps bring more
    than the settings say, which a recording cannot hold."""
    config, team = update.config, update.team
    left = config.training.max_train_steps - step
    how, sentence = backends.fastest(update, batches, rate, left, backends.possible(config, extra_batches))
    # Each process may have timed otherwise; the first one's word holds.
    how = backends.WAYS[team.agree(backends.WAYS.index(how))]
    settled = fields.replace(config, {"runtime.execution": how})
    if team.first:
        _write(run, settled, [sentence] if sentence else [])
    return settled


def _write(run: Run, settled: TrainConfig, reasons: list[str]) -> None:
    run.write_config(settled)
    for reason in reasons:
        run.append({"kind": "note", "message": reason})


def tuned(objective: Objective | FlowMatching, training: TrainingConfig) -> Objective | FlowMatching:
    """The base's objective with what the settings ask for; StudioError for what it has no place for."""
    if isinstance(objective, Objective):
        if training.timestep_shift is not None:
            raise StudioError(
                f"The timestep shift {training.timestep_shift:g} belongs to flow-matching bases; this one has a fixed schedule. Leave it empty."
            )
        return replace(objective, density=training.timestep_density or objective.density, min_snr_gamma=training.min_snr_gamma)
    if training.min_snr_gamma is not None:
        raise StudioError(f"Min-SNR (gamma {training.min_snr_gamma:g}) is defined for a discrete schedule; this base learns flows. Leave it empty.")
    shift = objective.shift if training.timestep_shift is None else Shift(training.timestep_shift)
    return replace(objective, density=training.timestep_density or objective.density, shift=shift)


def check_room(run: Run, config: TrainConfig, learner: Learner) -> None:
    """Refuse to begin what the disk cannot hold."""
    needed, free = _disk_bytes(config, learner) + SPARE_BYTES, shutil.disk_usage(run.path).free
    if free < needed:
        raise StudioError(
            f"This run needs about {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB is free. "
            "Free some space, or choose a smaller rank or fewer sample columns."
        )


def preflight(config: TrainConfig, film: Film, learner: Learner, seconds_per_step: float, step: int) -> dict:
    """What two real steps and one sample tell about the whole run: seconds, the peak of memory so far, and what the disk will hold."""
    return {
        "seconds_per_step": seconds_per_step,
        "seconds_left": seconds_per_step * (config.training.max_train_steps - step) + film.seconds_left(step),
        "sample_seconds": film.seconds_per_column,
        "peak_mb": runtime.peak_bytes(config.runtime) / 1e6,
        "disk_mb": _disk_bytes(config, learner) / 1e6,
    }


def _disk_bytes(config: TrainConfig, learner: Learner) -> int:
    """A LoRA a column, those lent, and three resume states (two kept, one being written): masters, the optimizer's state and the average."""
    numbers = sum(weight.numel() for weight in learner.masters.values())
    columns = config.training.max_train_steps // config.samples.every + 1
    state = 4 + learner.entry.state_bytes + 4 * bool(config.training.ema_decay)
    return int(numbers * (4 * (columns + MOST_LENT) + 3 * state))
