"""Settings left empty in a run's config, resolved for this machine before the first step and stored in the config: a resume uses the same."""

import logging
import shutil
from dataclasses import replace

from studio import families
from studio.config import TrainConfig, fields
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError
from studio.devices import measure, memory, runtime
from studio.devices.footprint import checkpoint_bytes
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.objectives import FlowMatching, Objective, Shift
from studio.runs.run import Run
from studio.training import backends, trial
from studio.training.distributed import ProcessGroup
from studio.training.optimizers import check_optimizer
from studio.training.parameters import TrainedParameters
from studio.training.resume import last_step
from studio.training.samples import SampleGrid
from studio.training.trial_process import SILENCE_SECONDS, Trials
from studio.training.verdicts import Verdict, key_of

log = logging.getLogger(__name__)

SPARE_BYTES = 50_000_000
MIN_STEPS_FOR_TRIAL = 1000
"""A run with fewer steps left tries nothing and runs eagerly, unless a verdict is known. A trial takes one to three minutes with its process; the
fastest execution saves about 0.05 to 0.1 s per step, so that is earned back in about 1,000 steps."""
MAX_PAUSE_ADAPTERS = 8
"""Adapters kept of those saved only because a pause was requested. Every image generated during training requests one."""


def resolve_config(run: Run, group: ProcessGroup) -> tuple[TrainConfig, BaseFolder, Family]:
    """The config with every empty setting filled, except `runtime.execution` on a GPU; its base and family.

    StudioError for settings that the base, the family or this machine does not support.
    """
    if not group.is_main:
        group.barrier()
    config = run.config
    base = families.resolve_base(config.model.base_model, config.model.revision)
    family = families.from_folder(base, config.model.family)
    if config.lora.method == "lokr" and not family.reads_lokr:
        raise StudioError(f"The method lokr does not work with {family.title}: diffusers reads no LoKr files of {family.title}. Choose lora or dora.")
    check_optimizer(config.training)
    # Counting builds the base on the meta device, which takes seconds for a large one: skipped in a resume, where nothing is empty.
    empty = None in (config.runtime.dtype, config.runtime.gradient_checkpointing, config.runtime.quantisation, config.runtime.offload)
    parameters = measure.count_base_parameters(family, base) if empty else 0
    requested = runtime.resolve(config.runtime, parameters, family.float16)
    chosen, reasons = memory.resolve(requested, parameters, config, base, family, run.footprints_dir)
    if config.runtime.dtype is None and (reason := runtime.precision(requested.filled_device, parameters, family.float16)[1]):
        reasons = [reason, *reasons]
    model = {"model.family": family.name, "model.revision": base.revision}
    resolved = fields.replace(config, {**model, **{f"runtime.{name}": value for name, value in chosen.model_dump().items()}})
    if group.is_main:
        if resolved != config:
            _write(run, resolved, reasons)
        group.barrier()
    return resolved, base, family


def resolve_execution(run: Run, config: TrainConfig, base: BaseFolder, family: Family, group: ProcessGroup) -> TrainConfig | None:
    """The config with the fastest `runtime.execution`, tried in a child process unless that is already known; None if a stop was requested.

    Call it before anything is loaded: the child has the GPU for itself. Only the main process tries, and the others read its choice.
    """
    if not group.is_main:
        group.barrier()
        return None if group.broadcast(0) else run.config
    chosen = _select_execution(run, config, base, family)
    resolved = None
    if chosen:
        execution, note = chosen
        resolved = fields.replace(config, {"runtime.execution": execution})
        _write(run, resolved, [note] if note else [])
    group.barrier()
    group.broadcast(int(resolved is None))
    return resolved


def _select_execution(run: Run, config: TrainConfig, base: BaseFolder, family: Family) -> tuple[str, str] | None:
    """(execution, note for the user); None if a stop was requested."""
    executions = backends.available(config)
    if executions == ["eager"]:
        return "eager", ""
    if "graph" in executions and not memory.graph_fits(config, base, family, run.footprints_dir):
        executions.remove("graph")
    steps, free = config.training.max_train_steps - last_step(run), memory.free_bytes(config.runtime.filled_device)
    sizes = trial.bucket_sizes(run, config, base, family)
    masked = config.dataset.masks and any("mask" in image for image in run.snapshot["pictures"])
    verdict = Verdict(run.trials_dir, key_of(config, base, family, sizes, masked))
    if missing := verdict.missing(executions, free):
        if steps < MIN_STEPS_FOR_TRIAL:
            return "eager", f"Running eagerly: {backends.count_steps(steps)} would not save the time that trying other ways takes."
        trials = Trials(
            trial.Request(config, base, sizes, masked, missing).to_json(),
            on_result=lambda execution, result: verdict.add(execution, result.model_copy(update={"free_bytes": free})),
            on_start=lambda remaining: run.append({"kind": "trial", "executions": remaining, "seconds": SILENCE_SECONDS * (len(remaining) + 1)}),
            should_stop=lambda: run.stop_requested,
        )
        if not trials.run(missing):
            return None
        if trials.failure:
            return "eager", f"Running eagerly; trying other ways failed: {backends.shorten(trials.failure)}."
    results = {name: verdict.results[name] for name in executions}
    execution = backends.select(results, steps)
    return execution, backends.describe(execution, results, steps, without=" without the text encoder" if config.lora.text_encoder else "")


def fall_back_to_eager(run: Run, config: TrainConfig, reason: str, group: ProcessGroup) -> TrainConfig:
    """The config of a run that continues eagerly, although another execution was chosen. The main process stores it."""
    changed = fields.replace(config, {"runtime.execution": "eager"})
    if group.is_main:
        _write(run, changed, [f"Running eagerly from here on: {reason}."])
    return changed


def _write(run: Run, config: TrainConfig, notes: list[str]) -> None:
    run.write_config(config)
    for note in notes:
        log.info("%s", note)
        run.append({"kind": "note", "message": note})


def resolve_objective(objective: Objective | FlowMatching, training: TrainingConfig) -> Objective | FlowMatching:
    """The objective of the base with the settings applied; StudioError for a setting that this kind of objective does not have."""
    if isinstance(objective, Objective):
        if training.timestep_shift is not None:
            raise StudioError(
                f"The timestep shift {training.timestep_shift:g} is defined for flow-matching bases; this base has a fixed noise schedule. "
                "Leave it empty."
            )
        return replace(objective, density=training.timestep_density or objective.density, min_snr_gamma=training.min_snr_gamma)
    if training.min_snr_gamma is not None:
        raise StudioError(
            f"Min-SNR (gamma {training.min_snr_gamma:g}) is defined for a discrete schedule; this base uses flow matching. Leave it empty."
        )
    shift = objective.shift if training.timestep_shift is None else Shift(training.timestep_shift)
    return replace(objective, density=training.timestep_density or objective.density, shift=shift)


def check_disk_space(run: Run, config: TrainConfig, parameters: TrainedParameters) -> None:
    """StudioError if the run's folder has too little free space for all adapters and checkpoints."""
    needed, free = _disk_bytes(config, parameters) + SPARE_BYTES, shutil.disk_usage(run.path).free
    if free < needed:
        raise StudioError(
            f"This run needs about {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB is free. "
            "Free some space, or choose a smaller rank or fewer sample columns."
        )


def preflight(config: TrainConfig, samples: SampleGrid, parameters: TrainedParameters, seconds_per_step: float, step: int) -> dict:
    """Estimate of the whole run after a few real steps and one column: seconds, peak memory so far and disk space, both in MB (10**6 bytes)."""
    return {
        "seconds_per_step": seconds_per_step,
        "seconds_left": seconds_per_step * (config.training.max_train_steps - step) + samples.seconds_left(step),
        "sample_seconds": samples.seconds_per_column,
        "peak_mb": runtime.peak_bytes(config.runtime) / 1e6,
        "disk_mb": _disk_bytes(config, parameters) / 1e6,
    }


def _disk_bytes(config: TrainConfig, parameters: TrainedParameters) -> int:
    """Bytes of one float32 adapter per column, of those saved for pauses, and of three checkpoints (two kept and one being written)."""
    count = sum(weight.numel() for weight in parameters.masters.values())
    columns = len(config.samples.columns(config.training.max_train_steps))
    return int(count * (4 * (columns + MAX_PAUSE_ADAPTERS) + 3 * checkpoint_bytes(config.training)))
