"""Training loop of every family: `python -m studio.training.loop RUN_FOLDER`.

A run that is killed at any point and resumed ends in the same adapter, byte for byte: batch order, noise and dropout are functions of
(seed, step, index), settings chosen for the machine are stored in the run, and checkpoints are written atomically.
"""

if __name__ == "__main__":
    from studio.core.imports import pause_garbage_collection, resume_garbage_collection

    pause_garbage_collection()
    # Before the other imports, so that what libraries write during their import comes after the versions.
    from studio.training.run_log import configure_process

    configure_process()

import contextlib
import errno
import logging
import os
import sys
import time
from pathlib import Path

import torch

from studio.config import optimizers
from studio.config.schedules import learning_rate
from studio.core import hashes, packages, platform, storage
from studio.core.errors import StudioError
from studio.devices import memory, runtime
from studio.devices.offload import place_denoiser
from studio.runs.run import Run
from studio.training import backends, regularization, resolve, run_log
from studio.training.batches import BatchLoader, ConditionCache
from studio.training.checkpoints import Disk
from studio.training.disk_full import WaitingDisk, WaitingRun
from studio.training.distributed import ProcessGroup
from studio.training.drawing import Drawing
from studio.training.encoding_cache import Encodings
from studio.training.examples import check_masks, encode_images, size_notes, split_validation, truncation_notes
from studio.training.lora import add_lora, load_start_weights, save_adapter
from studio.training.metrics import STEPS_BETWEEN_READS, MetricsReader, NotFinite
from studio.training.parameters import TrainedParameters
from studio.training.resolve import MAX_PAUSE_ADAPTERS, check_disk_space, preflight, resolve_config, resolve_execution, resolve_objective
from studio.training.resume import last_step, repair_events, restore, save_checkpoint, wait_while_paused
from studio.training.samples import SampleGrid
from studio.training.step import TrainingStep
from studio.training.validation import Validation

log = logging.getLogger(__name__)

STEPS_BEFORE_PREFLIGHT = 2
"""Steps in this process before the "preflight" event, which estimates time, memory and disk of the whole run."""
CONTINUE, PAUSE, STOP = 0, 1, 2


def train(run: Run, disk: Disk, group: ProcessGroup | None = None) -> None:
    """Train from the newest checkpoint to the last step, or until a stop is requested. Progress goes to the run's events only.

    `group`: the processes that share each step; without it this process trains alone.
    """
    group = group or ProcessGroup()
    started, timer = time.monotonic(), run_log.StartTimer()
    repair_events(run)
    config, base, family = resolve_config(run, group)
    runtime.apply(config.runtime)
    device, training, total = torch.device(config.runtime.filled_device), config.training, config.training.max_train_steps
    dtype = runtime.torch_dtype(config.runtime.filled_dtype)
    if group.is_main:
        run_log.log_start(run, config, base, family)
    timer.end("settings")
    if config.runtime.execution is None:
        resolved = resolve_execution(run, config, base, family, group)
        if resolved is None:
            _end_before_a_step(run, group)
            return
        config = resolved
        timer.end("trial")

    # Encode images and captions. VAE and text encoders are unloaded before the denoiser is loaded, except text encoders that training needs.
    encodings = Encodings(run.cache_dir, base, family, device, dtype)
    pipeline = encodings.pipeline
    training_images, validation_images = split_validation(run.snapshot["pictures"], config.validation.pictures, training.seed)
    examples = encode_images(run, encodings, config, training_images, group)
    validation_examples = encode_images(run, encodings, config, validation_images, group) if examples is not None else None
    if examples is None or validation_examples is None:
        _end_before_a_step(run, group)
        return
    check_masks(examples, training_images)
    conditions = ConditionCache(encodings, device, trim=config.runtime.filled_engine >= 2)
    samples = SampleGrid(run, config, base, family, encodings, disk)
    keep_text_encoders = config.lora.text_encoder or config.dataset.caption_shuffle
    if keep_text_encoders:
        encodings.load(family.text_encoder_names)
    if not config.lora.text_encoder:
        conditions.encode(["", config.prior.prompt, *(example.caption for example in [*examples, *validation_examples])])
        samples.encode_prompts()
    encodings.unload(("vae",) if keep_text_encoders else ("vae", *family.text_encoder_names))
    timer.end("encoding")

    # Load the denoiser, generate missing prior images with it, then inject the LoRA.
    straight_to = device if device.type == "cuda" and not config.runtime.offload else None
    loaded = family.load(base, dtype, (family.denoiser_name,), config.runtime.filled_quantisation, denoiser_device=straight_to)
    denoiser = loaded.components[family.denoiser_name]
    offload = place_denoiser(denoiser, family, config, device)
    pipeline.register_modules(**{family.denoiser_name: denoiser})
    prior_examples = regularization.load_prior(run, config, base, family, encodings, group)
    samples.prepare()
    if offload:
        offload.disable()
    lora_parameters = add_lora(pipeline, config, family, dtype)
    if offload:
        offload.enable()
    if config.runtime.gradient_checkpointing:
        family.enable_gradient_checkpointing(denoiser)

    # Create master weights and optimizer, and restore the newest checkpoint.
    text_encoder_names = {name for name in lora_parameters if not name.startswith(f"{family.denoiser_name}.")}
    parameters = TrainedParameters(lora_parameters, training, config.runtime.filled_engine, text_encoder_names)
    if start_weights := load_start_weights(run, config, family, lora_parameters):
        parameters.load_weights(start_weights)
    step = restore(run, parameters)
    if group.is_main:
        check_disk_space(run, config, parameters)

    # Create the data loaders, the training step and the validation.
    engine = config.runtime.filled_engine
    loader = BatchLoader(examples, config.dataset, training, group.shard, engine=engine)
    prior_loader = BatchLoader(prior_examples, config.dataset, training, group.shard, stream=1, engine=engine)
    objective = resolve_objective(family.objective(pipeline, device), training)
    training_step = TrainingStep(config, family, pipeline, objective, parameters, conditions, group)
    validation = Validation(validation_examples, config.validation, training.seed, training_step)
    training_step.train_mode()
    every = 1 if device.type == "cpu" or not parameters.entry.skips_on_device else STEPS_BETWEEN_READS
    metrics = MetricsReader(run, samples, total, every, write=group.is_main, may_skip=parameters.scaler is not None)
    pause_adapters: list[Path] = []

    def save(number: int) -> Path:
        """Write the adapter of step `number`."""
        return save_adapter(run, number, config, base, family, parameters.adapter_weights(), disk)

    def flush_metrics() -> None:
        """Write the metrics of the last steps. NotFinite if one of them diverged: the optimizer skipped that step, so the weights are still
        finite and are saved. They include later steps if those ran before the metrics were read."""
        if diverged := metrics.flush():
            number, loss = diverged
            kept = number - 1 if number == step else step
            if kept and not run.adapter_at(kept).exists():
                save(kept)
            raise NotFinite(number, loss, kept, training, config.runtime.filled_dtype)

    def save_newest() -> None:
        """Write the adapter of the current step, for images generated now."""
        flush_metrics()
        if step and not run.adapter_at(step).exists():
            pause_adapters.append(save(step))
            for old in pause_adapters[:-MAX_PAUSE_ADAPTERS]:
                for file in (hashes.beside(old), old):
                    storage.discard(file)
            del pause_adapters[:-MAX_PAUSE_ADAPTERS]

    drawing = Drawing(run, samples, save_newest)

    def answer_requests() -> None:
        """Draw requested images; save the newest weights and wait while a pause is requested."""
        drawing.answer(step)
        if run.pause_requested:
            save_newest()
            wait_while_paused(run, step)

    def fall_back(reason: str) -> None:
        """Continue eagerly. A resume must not repeat the steps before this one, which ran otherwise."""
        nonlocal config
        if group.is_main and step > checkpoint_step:
            flush_metrics()
            save_checkpoint(run, step, parameters, disk)
        config = resolve.fall_back_to_eager(run, config, reason, group)

    shapes = len({example.bucket for example in [*examples, *prior_examples]})
    run_step = backends.StepRunner(training_step, config.runtime.filled_execution, shapes, fall_back)

    timer.end("loading")

    # Report the start and generate the samples of the base.
    if group.is_main:
        run.append({"kind": "started", "step": step, "total": total, "resumed": step > 0, "execution": run_step.execution, "device": str(device)})
        run_log.log_resume(step, config)
        captions = [image["caption"] for image in run.snapshot["pictures"]]
        rate_note = optimizers.rate_note(training.optimizer, training.learning_rate)
        notes = [
            *size_notes(training_images, config, base, family),
            *encodings.notes,
            *truncation_notes(family, pipeline, captions),
            *([rate_note] if rate_note else []),
            *(offload.notes if offload else []),
        ]
        for note in notes:
            run.append({"kind": "note", "message": note})
        sampled = samples.generate_column(0, None, answer_requests)
        if step and samples.has_column(step) and run.adapter_at(step).exists():
            # Complete a column that a stop interrupted.
            sampled = samples.generate_column(step, run.adapter_at(step), answer_requests) and sampled
    else:
        sampled = True
    group.barrier()

    # Everything that is used only once has been freed by now.
    platform.keep_freed_memory()
    timer.end("samples")
    metrics.start_clock()
    checkpoint_step = first_step = step
    while step < total:
        action = group.broadcast(STOP if run.stop_requested else PAUSE if run.pause_requested or drawing.requested else CONTINUE)
        if action == STOP:
            break
        if action == PAUSE:
            if group.is_main:
                answer_requests()
            group.barrier()
            metrics.start_clock()
            continue

        # Forward, backward and optimizer step.
        batches = [(batch, 1 / training.gradient_accumulation_steps) for batch in loader.batches(step)]
        if prior_examples:
            batches += [(batch, config.prior.weight / training.gradient_accumulation_steps) for batch in prior_loader.batches(step)]
        rate = learning_rate(training, step)
        loss, norm = run_step(step, batches, rate)
        if group.is_main and step == first_step:
            loss.item()
            timer.end("step")
            timer.log()
        step += 1
        metrics.add(step, rate, loss, norm, parameters.effective_rate)

        # Metrics, validation, samples and checkpoint, where due.
        sample_due, checkpoint_due = samples.has_column(step), step % config.saving.checkpoint_every == 0 or step == total
        validation_due = bool(validation_examples) and (step % config.validation.every == 0 or step == total)
        preflight_due = step == first_step + STEPS_BEFORE_PREFLIGHT
        if metrics.full or sample_due or checkpoint_due or validation_due or preflight_due:
            flush_metrics()
        if group.is_main and preflight_due:
            assert metrics.seconds_per_step is not None, "flush_metrics has just measured it."
            run.append({"kind": "preflight", "step": step, **preflight(config, samples, parameters, metrics.seconds_per_step, step)})
        if validation_due:
            validation_loss = validation.loss()
            if group.is_main:
                run.append({"kind": "validation", "step": step, "loss": validation_loss})
            metrics.start_clock()
        if group.is_main and sample_due:
            sampled = samples.generate_column(step, save(step), answer_requests)
            run_log.log_progress("samples", step, config, metrics.seconds_per_step)
        if group.is_main and checkpoint_due:
            save_checkpoint(run, step, parameters, disk)
            run_log.log_progress("checkpoint", step, config, metrics.seconds_per_step)
        checkpoint_step = step if checkpoint_due else checkpoint_step
        if sample_due or checkpoint_due:
            group.barrier()
            metrics.start_clock()

    if not group.is_main:
        return
    flush_metrics()
    run.clear_stop()
    if step < total or not sampled:
        if checkpoint_step < step:
            save_checkpoint(run, step, parameters, disk)
        if step:
            save(step)
        run.append({"kind": "stopped", "step": step})
        run_log.log_end("stopped", step, config, time.monotonic() - started)
        return
    run_log.log_end("finished", step, config, time.monotonic() - started)
    run.append({"kind": "finished", "step": step, "seconds": time.monotonic() - started, "adapter": run.adapter_at(step).name})


def _end_before_a_step(run: Run, group: ProcessGroup) -> None:
    """Record that a stop was requested before this process took a step."""
    if group.is_main:
        run.clear_stop()
        run.append({"kind": "stopped", "step": last_step(run)})


def main(argv: list[str]) -> int:
    """Exit status 0 if the run finished or stopped, 1 if it failed: the reason is its last event, the traceback of a bug is in the log."""
    run = WaitingRun(Path(argv[0]))
    platform.be_nice()
    platform.prefer_as_oom_victim()
    try:
        # Before the processes choose their GPUs.
        runtime.check_processes(run.config.runtime)
    except StudioError as error:
        # One process reports it. The others end without an error, for which the launcher would end that one.
        return _fail(run, str(error)) if os.environ.get("RANK", "0") == "0" else 0
    group = ProcessGroup(run.config.runtime.processes)
    if not group.is_main:
        # Only the main process locks the run, writes files and reports failures.
        train(run, Disk(), group)
        group.close()
        return 0
    with run.lock(), contextlib.closing(group):
        try:
            train(run, WaitingDisk(run), group)
        except NotFinite as error:
            return _fail(run, str(error), [error.retry])
        except StudioError as error:
            return _fail(run, str(error))
        except (torch.OutOfMemoryError, MemoryError):
            return _fail(run, *memory.out_of_memory_advice(run.config))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                advice = "Check the file or device that it names, then resume the run."
                _fail(run, f"The operating system reported an error: {error}. {advice}", raised=True)
                raise
            return _fail(run, "The disk is full or cannot be written. Free some space and resume: nothing before the last checkpoint is lost.")
        except Exception as error:
            # torch has no exception class for a CPU that runs out of memory.
            if isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "not enough memory" in str(error)):
                return _fail(run, *memory.out_of_memory_advice(run.config))
            if refused := runtime.determinism_advice(error, run.config.runtime.device):
                return _fail(run, *refused)
            if cuda_advice := backends.cuda_error_advice(error, run.config.runtime.execution):
                return _fail(run, *cuda_advice)
            # Reported before it is raised: a run whose last event is not final shows as interrupted.
            summary = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            details = f"the details are in logs/{run.id}.log in the studio's folder."
            _fail(run, f"Unexpected error ({summary}); {details}{_untested_versions()}", raised=True)
            raise
    return 0


def _untested_versions() -> str:
    """Packages whose versions differ from the tested ones, a possible cause of a bug, with the command that installs those; empty if none."""
    other = packages.untested()
    return f" Installed in other versions than the tested ones: {'; '.join(other)}. Run `{packages.INSTALL}` and resume." if other else ""


def _fail(run: Run, message: str, retries: list[dict] | None = None, raised: bool = False) -> int:
    """Write the "failed" event; `retries` are changes of settings that may help, each {"title", "set"}. An exception that is raised again is
    logged where the process ends."""
    log.error("the run failed at step %d", last_step(run), exc_info=not raised)
    run.append({"kind": "failed", "step": last_step(run), "message": message, "retries": retries or []})
    return 1


if __name__ == "__main__":
    resume_garbage_collection()
    sys.exit(main(sys.argv[1:]))
