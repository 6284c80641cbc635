"""The training loop, top to bottom, for every family: `python -m studio.training RUN_FOLDER`.

A run killed anywhere and started again ends in the same adapter, byte for byte: order, noise and dropout are functions of
(seed, step, index), choices of the machine are stored with the run, and resume states are atomic.
"""

import errno
import math
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from studio import checkpoints, families, processes, runtime
from studio.batches import Cache, Examples, load_examples
from studio.chance import Purpose, draw
from studio.checkpoints import Disk
from studio.config import TrainConfig, fields
from studio.config.training import TrainingConfig
from studio.diffusion import FlowMatching, Objective, Shift
from studio.errors import StudioError
from studio.families.base import BaseFolder, Family
from studio.film import Film
from studio.lora import add_lora, save_adapter
from studio.runs import Run

SECONDS_BETWEEN_LOOKS = 0.02
SPARE_BYTES = 50_000_000
MOST_LENT = 8
"""Of the files saved only to be drawn with while it learns, the newest stay: someone who drags sliders asks for hundreds."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight's past."""


def train(run: Run, disk: Disk) -> None:
    """Train from the newest state to the end, or until asked to stop. Progress is told in the run's events alone."""
    started = time.monotonic()
    end_half_line(run)
    config, base, family = settle(run)
    runtime.apply(config.runtime)
    device, training, total = torch.device(config.runtime.device), config.training, config.training.max_train_steps

    pipeline = family.load(base, torch.bfloat16 if config.runtime.dtype == "bfloat16" else torch.float32).to(device)
    objective = tuned(family.objective(pipeline, device), training)
    cache = Cache(run.path / "cache", base, family, pipeline)
    loaded = load_examples(run.snapshot["pictures"], run.dataset_dir / "pictures", config.dataset, cache, lambda: run.stop_requested)
    if loaded is None:
        run.clear_stop()
        run.append({"kind": "stopped", "step": last_step(run)})
        return
    examples = Examples(*loaded, training.train_batch_size, training.seed, config.dataset.caption_dropout)
    film = Film(run, config, base, family, pipeline, disk)
    denoiser = pipeline.components[family.denoiser_name]
    weights = add_lora(denoiser, config, family)
    optimizer = torch.optim.AdamW(weights.values(), lr=training.learning_rate, weight_decay=training.weight_decay)
    step = restore(run, weights, optimizer)
    check_room(run, config, weights)

    lent: list[Path] = []

    def rest() -> None:
        """Give way when asked, with the newest weights on the disk: whoever asked may want to draw with them."""
        if not run.pause_requested:
            return
        if step and not run.adapter_at(step).exists():
            lent.append(save_adapter(run, step, config, base, family, weights, disk))
            for old in lent[:-MOST_LENT]:
                old.unlink(missing_ok=True)
            del lent[:-MOST_LENT]
        wait_while_paused(run, step)

    run.append({"kind": "started", "step": step, "total": total, "resumed": step > 0})
    for note in too_long(family, pipeline, [picture["caption"] for picture in run.snapshot["pictures"]]):
        run.append({"kind": "note", "message": note})
    drawn = film.draw(0, None, rest)
    if step and film.has_column(step) and run.adapter_at(step).exists():
        # Where a stop came in the middle of a column, the rest of it is drawn now.
        drawn = film.draw(step, run.adapter_at(step), rest) and drawn

    denoiser.train()
    seconds_per_step = None
    saved_at = step
    while step < total and not run.stop_requested:
        if run.pause_requested:
            rest()
            continue
        step_began = time.monotonic()
        batch = examples.batch(step)
        latents_BCHW, noise_BCHW = batch.latents_BCHW.to(device), batch.noise_BCHW.to(device)
        t_B = objective.timesteps(batch.uniform_B, latents_BCHW.shape[2:]).to(device)
        conditions = {name: rows.to(device) for name, rows in batch.conditions.items()}
        if config.lora.dropout:
            torch.manual_seed(draw(Purpose.LORA_DROPOUT, training.seed, step).integers(2**63))

        rate = learning_rate(training, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=config.runtime.dtype == "bfloat16"):
            prediction_BCHW = family.predict(denoiser, objective.add_noise(latents_BCHW, noise_BCHW, t_B), t_B, conditions)
        loss = objective.losses(prediction_BCHW, latents_BCHW, noise_BCHW, t_B).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights.values(), training.max_grad_norm)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            if step:
                save_adapter(run, step, config, base, family, weights, disk)
            raise StudioError(
                f"Learning broke at step {step + 1}: the loss is not a number any more. {f'The LoRA of step {step} is kept. ' if step else ''}"
                f"Start again with half the strength of learning (learning rate {training.learning_rate / 2:g})."
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1

        took = time.monotonic() - step_began
        seconds_per_step = took if seconds_per_step is None else 0.9 * seconds_per_step + 0.1 * took
        left = seconds_per_step * (total - step) + film.seconds_left(step)
        run.append({"kind": "step", "step": step, "loss": loss.item(), "lr": rate, "seconds_per_step": seconds_per_step, "seconds_left": left})

        if film.has_column(step):
            adapter = save_adapter(run, step, config, base, family, weights, disk)
            drawn = film.draw(step, adapter, rest)
        if step % config.saving.checkpoint_every == 0 or step == total:
            save_state(run, step, weights, optimizer, disk)
            saved_at = step

    run.clear_stop()
    if step < total or not drawn:
        if saved_at < step:
            save_state(run, step, weights, optimizer, disk)
        if step:
            save_adapter(run, step, config, base, family, weights, disk)
        run.append({"kind": "stopped", "step": step})
        return
    run.append({"kind": "finished", "step": step, "seconds": time.monotonic() - started, "adapter": run.adapter_at(step).name})


def settle(run: Run) -> tuple[TrainConfig, BaseFolder, Family]:
    """Everything this machine and this moment decide, written into the run's config the first time and read from it ever after."""
    config = run.config
    family = families.get(config.model.family)
    base = families.resolve_base(config.model.base_model, config.model.revision)
    chosen = runtime.choose(config.runtime)
    settled = fields.replace(config, {"model.revision": base.revision, **{f"runtime.{name}": value for name, value in chosen.model_dump().items()}})
    if settled != config:
        run.write_config(settled)
    return settled, base, family


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


def too_long(family: Family, pipeline: DiffusionPipeline, captions: list[str]) -> list[str]:
    """One sentence when captions are longer than the base can read, with the first that is cut."""
    cut = {caption: lost for caption in captions if (lost := family.beyond_limit(pipeline, caption))}
    if not cut:
        return []
    caption, lost = next(iter(cut.items()))
    return [f"{len(cut)} of {len(captions)} captions are longer than this base reads; their ends are ignored, in the first one: “{lost}”."]


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The rate of step `step` (from 0): warmed up linearly, then constant, fading out by half a cosine, or falling in a line to zero."""
    if step < training.lr_warmup_steps:
        return training.learning_rate * (step + 1) / (training.lr_warmup_steps + 1)
    done = (step - training.lr_warmup_steps) / max(1, training.max_train_steps - training.lr_warmup_steps)
    shape = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done}
    return training.learning_rate * shape[training.lr_scheduler]


def save_state(run: Run, step: int, weights: dict[str, Tensor], optimizer: torch.optim.AdamW, disk: Disk) -> None:
    """A resume state: the halves as they are trained, and AdamW's two moments."""
    tensors = {f"weight/{name}": weight for name, weight in weights.items()}
    for moment in MOMENTS:
        tensors |= {f"{moment}/{name}": optimizer.state[weight][moment] for name, weight in weights.items() if weight in optimizer.state}
    checkpoints.save(run.checkpoints_dir, step, tensors, disk)
    run.append({"kind": "checkpoint", "step": step})


def restore(run: Run, weights: dict[str, Tensor], optimizer: torch.optim.AdamW) -> int:
    """Go back to the newest whole state; returns its step, 0 when there is none."""
    found = checkpoints.load_newest(run.checkpoints_dir)
    if found is None:
        return 0
    step, tensors = found
    for name, weight in weights.items():
        weight.data.copy_(tensors[f"weight/{name}"])
        if f"exp_avg/{name}" in tensors:
            moments = {moment: tensors[f"{moment}/{name}"].to(weight.device) for moment in MOMENTS}
            optimizer.state[weight] = {"step": torch.tensor(float(step)), **moments}
    return step


def last_step(run: Run) -> int:
    """How far the run has told that it came."""
    return (run.curve() or [{"step": 0}])[-1]["step"]


def end_half_line(run: Run) -> None:
    """A kill can cut an event in two; without this the first event of the resume would be lost on the same line."""
    if run.events_file.exists() and not run.events_file.read_bytes().endswith(b"\n"):
        with open(run.events_file, "ab") as file:
            file.write(b"\n")


def wait_while_paused(run: Run, step: int) -> None:
    """Lend the machine to whoever asked, between two steps or samples; nothing of the run changes meanwhile."""
    run.append({"kind": "pausing", "step": step})
    while run.pause_requested and not run.stop_requested:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    run.append({"kind": "resumed", "step": step})


def check_room(run: Run, config: TrainConfig, weights: dict[str, Tensor]) -> None:
    """Refuse to begin what the disk cannot hold: a LoRA a column, those lent, and three resume states (two kept, one being written)."""
    size = sum(4 * weight.numel() for weight in weights.values())
    columns = config.training.max_train_steps // config.samples.every + 1
    needed, free = size * (columns + 9 + MOST_LENT) + SPARE_BYTES, shutil.disk_usage(run.path).free
    if free < needed:
        raise StudioError(
            f"This run needs about {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB is free. "
            "Free some space, or choose a smaller rank or fewer sample columns."
        )


def main(argv: list[str]) -> int:
    """Exit status 0 when finished or stopped, 1 when it failed; the reason is the run's last event, a bug's traceback is in the log."""
    run = Run(Path(argv[0]))
    processes.be_nice()
    processes.be_first_to_die()
    with run.lock():
        try:
            train(run, Disk())
        except StudioError as error:
            return _fail(run, str(error))
        except (torch.OutOfMemoryError, MemoryError):
            return _fail(run, _out_of_memory(run))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                _fail(run, f"The computer refused something the run needs: {error}.")
                raise
            return _fail(run, "The disk is full (or cannot be written). Free some space and resume: nothing up to the last safe point is lost.")
        except Exception as error:
            # torch has no class of its own for a CPU that runs out of memory.
            if isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "not enough memory" in str(error)):
                return _fail(run, _out_of_memory(run))
            # Not swallowed: a run without a last word would look interrupted for ever.
            said = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            _fail(run, f"Something unexpected broke ({said}); the details are in logs/{run.id}.log in the studio's folder.")
            raise
    return 0


def _fail(run: Run, message: str) -> int:
    run.append({"kind": "failed", "step": last_step(run), "message": message})
    return 1


def _out_of_memory(run: Run) -> str:
    config = run.config
    cheaper = []
    if config.training.train_batch_size > 1:
        cheaper.append(f"pictures at a time {config.training.train_batch_size // 2}")
    if config.dataset.resolution > 256:
        cheaper.append(f"picture size {config.dataset.resolution * 3 // 4 // 64 * 64}")
    if config.lora.rank > 4:
        cheaper.append(f"rank {config.lora.rank // 2}")
    return f"The memory is not enough for this run. Close other programs, or start again with: {', or '.join(cheaper) or 'a smaller base'}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
