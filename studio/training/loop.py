"""The training loop, top to bottom, for every family: `python -m studio.training.loop RUN_FOLDER`.

A run killed anywhere and started again ends in the same adapter, byte for byte: order, noise and dropout are functions of
(seed, step, index), choices of the machine are stored with the run, and resume states are atomic.
"""

import contextlib
import errno
import sys
import time
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from studio.config import TrainConfig, schedules
from studio.config.training import TrainingConfig
from studio.core import hashes, packages, platform
from studio.core.errors import StudioError
from studio.devices import memory, runtime
from studio.families.base import Family
from studio.runs.run import Run
from studio.training import backends, checkpoints, regularization
from studio.training.batches import Example, Examples, Words, held_back, load_examples
from studio.training.checkpoints import Disk
from studio.training.disk_full import PatientDisk, PatientRun
from studio.training.distributed import Team
from studio.training.encoding_cache import Encodings
from studio.training.lora import add_lora, save_adapter, start_tensors
from studio.training.metrics import STEPS_BETWEEN_READINGS, NotFinite, Readings
from studio.training.offload import place
from studio.training.parameters import Learner
from studio.training.resolve import MOST_LENT, check_room, preflight, settle, settle_execution, tuned
from studio.training.samples import Film
from studio.training.step import Update
from studio.training.validation import Validation

SECONDS_BETWEEN_LOOKS = 0.02
SECONDS_BETWEEN_NEWS = 0.5
STEPS_BEFORE_PREFLIGHT = 2
"""Real steps, after which time, memory and disk are known well enough to say whether the whole run is worth waiting for."""
GO_ON, PAUSE, STOP = 0, 1, 2


def train(run: Run, disk: Disk, team: Team | None = None) -> None:
    """Train from the newest state to the end, or until asked to stop. Progress is told in the run's events alone."""
    team = team or Team()
    started = time.monotonic()
    end_half_line(run)
    config, base, family = settle(run, team)
    runtime.apply(config.runtime)
    device, training, total = torch.device(config.runtime.device), config.training, config.training.max_train_steps
    dtype = runtime.torch_dtype(config.runtime.dtype)

    # What encodes pictures and words comes first, says what it has to say, and goes before the denoiser comes.
    encodings = Encodings(run.cache_dir, base, family, device, dtype)
    pipeline = encodings.pipeline
    teaching, asked_about = held_back(run.snapshot["pictures"], config.validation.pictures, training.seed)
    examples = encode(run, encodings, config, teaching, team)
    held = encode(run, encodings, config, asked_about, team) if examples is not None else None
    if examples is None or held is None:
        if team.first:
            run.clear_stop()
            run.append({"kind": "stopped", "step": last_step(run)})
        return
    words = Words(encodings, device)
    film = Film(run, config, base, family, encodings, disk)
    keeps_words = config.lora.text_encoder or config.dataset.caption_shuffle
    if keeps_words:
        encodings.load(family.text_encoder_names)
    if not config.lora.text_encoder:
        words.learn(["", config.prior.prompt, *(example.caption for example in [*examples, *held])])
        film.learn_prompts()
    encodings.drop(("vae",) if keeps_words else ("vae", *family.text_encoder_names))

    loaded = family.load(base, dtype, parts=(family.denoiser_name,), quantisation=config.runtime.quantisation)
    denoiser = loaded.components[family.denoiser_name]
    offload = place(denoiser, family, config, device)
    pipeline.register_modules(**{family.denoiser_name: denoiser})
    regular = regularization.examples(run, config, base, family, encodings, team)
    film.get_ready()
    if offload:
        offload.end()
    working = add_lora(pipeline, config, family, dtype)
    if offload:
        offload.begin()
    if config.runtime.gradient_checkpointing:
        family.enable_gradient_checkpointing(denoiser)
    learner = Learner(working, training, {name for name in working if not name.startswith(f"{family.denoiser_name}.")})
    if begin := start_tensors(run, config, family, working):
        learner.start_from(begin)
    step = restore(run, learner)
    if team.first:
        check_room(run, config, learner)
    mine, theirs = Examples(examples, config.dataset, training, team.share), Examples(regular, config.dataset, training, team.share, stream=1)
    update = Update(config, family, pipeline, tuned(family.objective(pipeline, device), training), learner, words, team)
    validation = Validation(held, config.validation, training.seed, update)

    update.learn_mode()
    if config.runtime.execution is None:
        batches = [(batch, 1 / training.gradient_accumulation_steps) for batch in mine.batches(step)]
        config = settle_execution(run, update, batches, learning_rate(training, step), step, bool(regular))
    backends.prepare(update, config.runtime.execution)

    every = 1 if device.type == "cpu" or not learner.entry.skips_on_device else STEPS_BETWEEN_READINGS
    readings = Readings(run, film, total, every, write=team.first)
    lent: list[Path] = []

    def save(number: int) -> Path:
        return save_adapter(run, number, config, base, family, learner.result(), disk)

    def tell() -> None:
        """Write down how the last steps went. Nothing of a step that was not finite reached the weights: they are kept, with what steps
        after it taught where those were not read yet, and NotFinite ends the run."""
        if broken := readings.tell():
            number, loss = broken
            kept = number - 1 if number == step else step
            if kept and not run.adapter_at(kept).exists():
                save(kept)
            raise NotFinite(number, loss, kept, training)

    def rest() -> None:
        """Give way when asked, with the newest weights on the disk: whoever asked may want to draw with them."""
        if not run.pause_requested:
            return
        tell()
        if step and not run.adapter_at(step).exists():
            lent.append(save(step))
            for old in lent[:-MOST_LENT]:
                for file in (hashes.beside(old), old):
                    file.unlink(missing_ok=True)
            del lent[:-MOST_LENT]
        wait_while_paused(run, step)

    if team.first:
        run.append(
            {"kind": "started", "step": step, "total": total, "resumed": step > 0, "execution": config.runtime.execution, "device": str(device)}
        )
        captions = [picture["caption"] for picture in run.snapshot["pictures"]]
        for note in [*encodings.notes, *too_long(family, pipeline, captions)]:
            run.append({"kind": "note", "message": note})
        drawn = film.draw(0, None, rest)
        if step and film.has_column(step) and run.adapter_at(step).exists():
            # Where a stop came in the middle of a column, the rest of it is drawn now.
            drawn = film.draw(step, run.adapter_at(step), rest) and drawn
    else:
        drawn = True
    team.wait()

    # Everything that will not be needed again is gone by now.
    platform.keep_freed_memory()
    readings.start_clock()
    saved_at = began_at = step
    while step < total:
        wish = team.agree(STOP if run.stop_requested else PAUSE if run.pause_requested else GO_ON)
        if wish == STOP:
            break
        if wish == PAUSE:
            if team.first:
                rest()
            team.wait()
            readings.start_clock()
            continue
        batches = [(batch, 1 / training.gradient_accumulation_steps) for batch in mine.batches(step)]
        if regular:
            batches += [(batch, config.prior.weight / training.gradient_accumulation_steps) for batch in theirs.batches(step)]
        rate = learning_rate(training, step)
        loss, norm = update(step, batches, rate, config.runtime.execution)
        step += 1
        readings.add(step, rate, loss, norm)
        column, safe = film.has_column(step), step % config.saving.checkpoint_every == 0 or step == total
        asks = bool(held) and (step % config.validation.every == 0 or step == total)
        known = step == began_at + STEPS_BEFORE_PREFLIGHT
        if readings.full or column or safe or asks or known:
            tell()
        if team.first and known:
            run.append({"kind": "preflight", "step": step, **preflight(config, film, learner, readings.seconds_per_step, step)})
        if asks:
            said = validation.loss()
            if team.first:
                run.append({"kind": "validation", "step": step, "loss": said})
            readings.start_clock()
        if team.first and column:
            drawn = film.draw(step, save(step), rest)
        if team.first and safe:
            save_state(run, step, learner, disk)
        saved_at = step if safe else saved_at
        if column or safe:
            team.wait()
            readings.start_clock()

    if not team.first:
        return
    tell()
    run.clear_stop()
    if step < total or not drawn:
        if saved_at < step:
            save_state(run, step, learner, disk)
        if step:
            save(step)
        run.append({"kind": "stopped", "step": step})
        return
    run.append({"kind": "finished", "step": step, "seconds": time.monotonic() - started, "adapter": run.adapter_at(step).name})


def encode(run: Run, encodings: Encodings, config: TrainConfig, pictures: list[dict], team: Team) -> list[Example] | None:
    """Pictures as examples; None when a wish to stop came. The first process encodes, the others then find it all in the cache."""

    told = time.monotonic()

    def tell(done: int, count: int) -> None:
        nonlocal told
        if time.monotonic() - told > SECONDS_BETWEEN_NEWS:
            told = time.monotonic()
            run.append({"kind": "encoding", "done": done, "total": count})

    if not team.first:
        team.wait()
        if team.agree(0):
            return None
    folder = run.dataset_dir / "pictures"
    stopping = (lambda: run.stop_requested) if team.first else (lambda: False)
    found = load_examples(pictures, folder, config.dataset, encodings, stopping, tell if team.first else lambda done, count: None)
    if team.first:
        team.wait()
        team.agree(int(found is None))
    return found


def too_long(family: Family, pipeline: DiffusionPipeline, captions: list[str]) -> list[str]:
    """One sentence when captions are longer than the base can read, with the first that is cut."""
    cut = {caption: lost for caption in captions if (lost := family.truncated_text(pipeline, caption))}
    if not cut:
        return []
    caption, lost = next(iter(cut.items()))
    return [f"{len(cut)} of {len(captions)} captions are longer than this base reads; their ends are ignored, in the first one: “{lost}”."]


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The rate of step `step` (from 0): warmed up linearly, then as the schedule says."""
    if step < training.lr_warmup_steps:
        return training.learning_rate * (step + 1) / (training.lr_warmup_steps + 1)
    progress = (step - training.lr_warmup_steps) / max(1, training.max_train_steps - training.lr_warmup_steps)
    return training.learning_rate * schedules.rate_factor(training, progress)


def save_state(run: Run, step: int, learner: Learner, disk: Disk) -> None:
    """A resume state: everything from which the optimizer goes on to the same bytes."""
    tensors, facts = learner.state()
    checkpoints.save(run.checkpoints_dir, step, tensors, facts, disk)
    run.append({"kind": "checkpoint", "step": step})


def restore(run: Run, learner: Learner) -> int:
    """Go back to the newest whole state; returns its step, 0 when there is none."""
    found = checkpoints.load_newest(run.checkpoints_dir)
    if found is None:
        return 0
    step, tensors, facts = found
    learner.restore(tensors, facts)
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


def main(argv: list[str]) -> int:
    """Exit status 0 when finished or stopped, 1 when it failed; the reason is the run's last event, a bug's traceback is in the log."""
    run = PatientRun(Path(argv[0]))
    platform.be_nice()
    platform.prefer_as_oom_victim()
    team = Team(run.config.runtime.processes)
    if not team.first:
        # The first process has the run's lock and its last word, and writes.
        train(run, Disk(), team)
        team.close()
        return 0
    with run.lock(), contextlib.closing(team):
        try:
            train(run, PatientDisk(run), team)
        except NotFinite as error:
            return _fail(run, str(error), [error.retry])
        except StudioError as error:
            return _fail(run, str(error))
        except (torch.OutOfMemoryError, MemoryError):
            return _fail(run, *memory.out_of_memory_advice(run.config))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                _fail(run, f"The computer refused something the run needs: {error}.")
                raise
            return _fail(run, "The disk is full (or cannot be written). Free some space and resume: nothing up to the last safe point is lost.")
        except Exception as error:
            # torch has no class of its own for a CPU that runs out of memory.
            if isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "not enough memory" in str(error)):
                return _fail(run, *memory.out_of_memory_advice(run.config))
            # Not swallowed: a run without a last word would look interrupted for ever.
            said = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            _fail(run, f"Something unexpected broke ({said}); the details are in logs/{run.id}.log in the studio's folder.{_other_versions()}")
            raise
    return 0


def _other_versions() -> str:
    """What a bug may come from: packages in versions that the studio was not tested with. Empty when there are none."""
    other = packages.untested()
    return f" Installed in other versions than the tested ones: {'; '.join(other)}. Run `{packages.INSTALL}` and resume." if other else ""


def _fail(run: Run, message: str, retries: list[dict] | None = None) -> int:
    """The last word: what happened, and the settings with which it may go well."""
    run.append({"kind": "failed", "step": last_step(run), "message": message, "retries": retries or []})
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
