import errno
import hashlib
import json
import shutil
import threading
import time

import numpy
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from studio import families
from studio.adapters.format import load_adapter, read_header
from studio.benchmark.tiny import save_tiny_model
from studio.config import optimizers
from studio.config.recipe import read_recipe
from studio.core import hashes, platform
from studio.core.errors import StudioError
from studio.families import resolve_base
from studio.families.objectives import Objective
from studio.generation.generator import Generator
from studio.runs.run import Run
from studio.training import disk_full, loop, resolve
from studio.training.batches import BatchLoader
from studio.training.checkpoints import Disk
from studio.training.distributed import ProcessGroup
from studio.training.loop import train
from studio.training.lora import save_adapter
from tests.tiny import FAMILY, optimizer_settings, tiny_base, tiny_run  # noqa: F401 - fixtures


@pytest.fixture
def run(workspace, tiny_base):  # noqa: F811
    return tiny_run(workspace, tiny_base)


def kinds(run: Run) -> list[str]:
    return [event["kind"] for event in run.events()[0]]


def adapters(run: Run) -> dict[int, bytes]:
    return {step: path.read_bytes() for step, path in run.adapters()}


def main(run: Run) -> str:
    """Train as the child process does; returns the failure's message, empty if there is none."""
    status = loop.main([str(run.path)])
    last = run.events()[0][-1]
    assert status == (1 if last["kind"] == "failed" else 0)
    return last.get("message", "")


def test_a_run_writes_an_event_for_everything_it_does(run):
    assert main(run) == ""
    events = run.events()[0]
    assert kinds(run).count("step") == 6
    assert kinds(run)[0] == "started" and kinds(run)[-1] == "finished"
    assert [event["step"] for event in events if event["kind"] == "sample"] == [0, 3, 6]
    assert [event["step"] for event in events if event["kind"] == "checkpoint"] == [2, 4, 6]
    assert [step for step, _ in run.adapters()] == [3, 6]
    assert run.state == "finished"
    for event in events:
        if event["kind"] == "step":
            assert {"loss", "lr", "seconds_per_step", "seconds_left"} <= event.keys() and event["seconds_left"] >= 0


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_steps_have_the_configured_rate_and_the_one_that_was_found(entry, workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, "samples.prompts=[]", f"training.optimizer={entry.name}")
    assert main(run) == ""
    assert {event["lr"] for event in run.curve()} == {1e-3}
    found = [event["effective_lr"] for event in run.curve() if "effective_lr" in event]
    assert len(found) == (6 if entry.finds_rate else 0) and all(0 < rate < 1e-3 for rate in found)
    notes = [event["message"] for event in run.events()[0] if event["kind"] == "note" and "multiplies the learning rate" in event["message"]]
    assert notes == ([optimizers.rate_note(entry.name, 1e-3)] if entry.rate_factor else [])


def test_runtime_settings_are_resolved_once_and_stored(run):
    main(run)
    chosen = run.config.runtime
    assert (chosen.device, chosen.dtype, chosen.threads) == ("cpu", "float32", 1)


def test_memory_savings_for_a_large_base_are_resolved_once_and_noted(run, monkeypatch):
    monkeypatch.setattr("studio.devices.memory.LARGE_BASE_PARAMETERS", 0)
    monkeypatch.setattr(platform, "free_memory", lambda: 1_000_000)
    config, _, _ = resolve.resolve_config(run, ProcessGroup())
    assert config.runtime.gradient_checkpointing and config.runtime.quantisation == "none" and not config.runtime.offload
    (note,) = [event["message"] for event in run.events()[0] if event["kind"] == "note"]
    assert "Free memory: 0.0 GB. Chosen: gradient checkpointing" in note
    monkeypatch.setattr(platform, "free_memory", lambda: 10**12)
    assert resolve.resolve_config(run, ProcessGroup())[0] == config


def test_the_family_is_resolved_with_the_base(run):
    assert run.config.model.family == ""
    main(run)
    assert run.config.model.family == "stable-diffusion"


def test_a_family_that_does_not_match_the_base_is_an_error(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, "model.family=flux")
    assert "'tiny-model' belongs to the family 'stable-diffusion', but the settings have 'flux'" in main(run)


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_every_optimizer_overfits_one_batch(entry, workspace, tiny_base, monkeypatch):  # noqa: F811
    original = BatchLoader.batches
    monkeypatch.setattr(BatchLoader, "batches", lambda self, step: original(self, 0))
    # Optimizers that find the learning rate start with a tiny one; with relative steps it stays small while the weights are small.
    steps, share = (120, 0.995 if entry.excludes_schedule else 0.9) if entry.finds_rate else (40, 0.9)
    short = [f"training.max_train_steps={steps}", "samples.prompts=[]", f"samples.every={steps}", f"saving.checkpoint_every={steps}"]
    run = tiny_run(workspace, tiny_base, *short, "training.learning_rate=2e-2", *optimizer_settings(entry))
    main(run)
    losses = [event["loss"] for event in run.curve()]
    assert losses[-1] < share * losses[0]


def test_the_header_describes_the_adapter_and_nothing_of_the_machine(run, tiny_base):  # noqa: F811
    main(run)
    path = run.latest_adapter()
    header = read_header(path)
    facts = json.loads(header.metadata["studio"])
    assert (facts["trained_alpha"], facts["rank"], facts["trigger_word"], facts["family"]) == (8.0, 4, "ohwx", "stable-diffusion")
    assert facts["dataset_sha256"] == run.snapshot["sha256"]
    assert facts["base_model"] == tiny_base.title
    stated = json.loads(header.metadata["lora_adapter_metadata"])
    assert stated == {
        **{"unet.r": 4, "unet.lora_alpha": 4, "unet.lora_dropout": 0.0, "unet.bias": "none", "unet.peft_type": "LORA"},
        **{"unet.target_modules": sorted(FAMILY.target_modules), "unet.rank_pattern": {}, "unet.alpha_pattern": {}},
    }
    for key in ("sai_model_spec", "architecture", "implementation", "title"):
        assert header.metadata[f"modelspec.{key}"]
    head = path.read_bytes()[:20_000]
    for private in (run.id, str(tiny_base.path), str(run.path.parent)):
        assert private.encode() not in head


def test_alpha_is_folded_into_the_file(workspace, tiny_base):  # noqa: F811
    seen = {}

    class Watching(Disk):
        def write(self, path, data):
            seen[path.parent.name if path.name == "state.safetensors" else path.name] = data
            super().write(path, data)

    run = tiny_run(workspace, tiny_base, "samples.every=2")
    train(run, Watching())
    from safetensors.torch import load

    state = load(next(data for name, data in seen.items() if name.startswith(".aside")))
    layers = load_adapter(run.adapter_at(2), FAMILY).layers
    name, low_rank = next(iter(layers.items()))
    trained = state[f"weight/{name}.lora_B.weight"]
    assert trained.abs().sum() > 0
    assert torch.equal(low_rank.B, trained * 2)


def test_samples_are_generated_from_the_adapter_file(run, tiny_base):  # noqa: F811
    main(run)
    columns = run.samples()
    assert sorted(columns) == [0, 3, 6]
    generator = Generator(tiny_base, FAMILY)
    for step, files in columns.items():
        recipe = read_recipe(files[0].read_bytes())
        assert recipe.prompt == "ohwx picture of a cat"
        assert [entry.adapter for entry in recipe.stack] == ([f"run:{run.id}@{step}"] if step else [])
        again = generator.generate(recipe, [(run.adapter_at(step), 1.0)] if step else [])
        assert numpy.array_equal(numpy.asarray(again), numpy.asarray(Image.open(files[0])))


def test_a_sample_that_overflows_is_noted_and_training_continues(workspace, tmp_path):
    folder = save_tiny_model(tmp_path / "tiny-model")
    weights = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    weights["decoder.conv_out.bias"].fill_(float("nan"))
    save_file(weights, folder / "vae" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    run = tiny_run(workspace, resolve_base(str(folder)))
    assert main(run) == ""
    notes = [event["message"] for event in run.events()[0] if event["kind"] == "note"]
    assert [note.partition(" is black")[0][-6:] for note in notes] == ["step 0", "step 3", "step 6"]
    assert all("overflows in float32" in note for note in notes) and len(run.adapters()) == 2


def test_every_large_saved_lora_has_its_hash_beside_it(run, monkeypatch):
    monkeypatch.setattr(hashes, "SMALL_BYTES", 0)
    assert main(run) == ""
    for _, path in run.adapters():
        assert hashes.beside(path).exists() and hashes.known(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_sampling_does_not_change_the_adapter(workspace, tiny_base, run):  # noqa: F811
    silent = tiny_run(workspace, tiny_base, "samples.prompts=[]")
    main(run)
    main(silent)
    ours, theirs = (load_adapter(r.latest_adapter(), FAMILY).layers for r in (run, silent))
    assert all(torch.equal(ours[name].B, theirs[name].B) and torch.equal(ours[name].A, theirs[name].A) for name in ours)


def test_masks_change_the_adapter_unless_they_are_switched_off(workspace, tiny_base):  # noqa: F811
    short = ("training.max_train_steps=2", "samples.prompts=[]", "dataset.flip=true")
    runs = [
        tiny_run(workspace, tiny_base, *short),
        tiny_run(workspace, tiny_base, *short, "dataset.masks=false", masked=True),
        tiny_run(workspace, tiny_base, *short, masked=True),
    ]
    assert [main(each) for each in runs] == ["", "", ""]
    plain, unused, masked = (load_adapter(each.latest_adapter(), FAMILY).layers for each in runs)
    assert all(torch.equal(plain[name].B, unused[name].B) for name in plain)
    assert not all(torch.equal(plain[name].B, masked[name].B) for name in plain)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(workspace, tiny_base, run):  # noqa: F811
    twin, other = tiny_run(workspace, tiny_base), tiny_run(workspace, tiny_base, "training.seed=8")
    for each in (run, twin, other):
        main(each)
    assert adapters(run) == adapters(twin)
    assert adapters(run)[6] != adapters(other)[6]


def test_stop_saves_first_and_a_resume_ends_in_the_same_bytes(workspace, tiny_base, run):  # noqa: F811
    uninterrupted = tiny_run(workspace, tiny_base)
    main(uninterrupted)

    class StopsAtThree(Run):
        def append(self, event):
            super().append(event)
            if event["kind"] == "step" and event["step"] == 3:
                self.request_stop()

    train(StopsAtThree(run.path), Disk())
    assert kinds(run)[-1] == "stopped" and run.state == "stopped" and not run.stop_requested
    assert run.adapter_at(3).exists()
    assert (run.checkpoints_dir / "step-000003").exists()
    main(run)
    assert [event["step"] for event in run.events()[0] if event["kind"] == "started"] == [0, 3]
    assert adapters(run) == adapters(uninterrupted)


@pytest.mark.parametrize("column", [0, 3, 6])
def test_a_stop_takes_effect_between_two_samples_and_a_resume_generates_the_rest(column, workspace, tiny_base):  # noqa: F811
    two = 'samples.prompts=["a", "b"]'
    uninterrupted, run = tiny_run(workspace, tiny_base, two), tiny_run(workspace, tiny_base, two)
    main(uninterrupted)

    class StopsAtAPicture(Disk):
        def replace(self, path, data):
            super().replace(path, data)
            if path.parent.name == f"{column:06d}" and path.suffix == ".png":
                run.request_stop()

    train(run, StopsAtAPicture())
    assert run.events()[0][-1]["kind"] == "stopped" and run.events()[0][-1]["step"] == column and not run.stop_requested
    assert len(run.samples()[column]) == 1
    assert [event["step"] for event in run.events()[0] if event["kind"] == "sample"] == [step for step in (0, 3, 6) if step < column]
    main(run)
    assert run.state == "finished" and adapters(run) == adapters(uninterrupted)
    assert [event["step"] for event in run.events()[0] if event["kind"] == "sample"] == [0, 3, 6]
    assert [len(files) for files in run.samples().values()] == [2, 2, 2]


def test_a_stop_takes_effect_while_images_are_encoded(workspace, tiny_base, run, monkeypatch):  # noqa: F811
    uninterrupted = tiny_run(workspace, tiny_base)
    main(uninterrupted)
    shutil.rmtree(run.cache_dir)
    original, calls = FAMILY.__class__.encode_images, []

    def asks(*arguments):
        calls.append(1)
        if len(calls) == 2:
            run.request_stop()
        return original(*arguments)

    monkeypatch.setattr(FAMILY.__class__, "encode_images", asks)
    main(run)
    assert kinds(run) == ["stopped"] and run.state == "stopped" and not run.stop_requested and len(calls) == 2
    main(run)
    assert run.state == "finished" and adapters(run) == adapters(uninterrupted)


def test_a_pause_waits_at_a_step_and_changes_nothing(workspace, tiny_base, run):  # noqa: F811
    uninterrupted = tiny_run(workspace, tiny_base)
    main(uninterrupted)
    run.request_pause()
    worker = threading.Thread(target=main, args=(run,))
    worker.start()
    deadline = time.monotonic() + 30
    while "pausing" not in kinds(run) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.state == "paused"
    time.sleep(0.2)
    assert "step" not in kinds(run)
    run.clear_pause()
    worker.join()
    assert run.state == "finished" and "resumed" in kinds(run)
    assert adapters(run) == adapters(uninterrupted)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_the_last_good_adapter(bad, run, monkeypatch):
    original, calls = Objective.losses, []

    def breaks_at_fourth(self, *tensors):
        calls.append(1)
        return original(self, *tensors) * (bad if len(calls) == 4 else 1)

    monkeypatch.setattr(Objective, "losses", breaks_at_fourth)
    message = main(run)
    assert "step 4" in message and "learning rate (0.0005)" in message
    assert load_adapter(run.latest_adapter(), FAMILY)
    assert [step for step, _ in run.adapters()] == [3]
    assert run.state == "failed"


def test_weights_that_are_not_finite_are_never_saved(run):
    spoilt = {"unet.a.lora_A.weight": torch.tensor([[float("inf")]]), "unet.a.lora_B.weight": torch.zeros(1, 1)}
    with pytest.raises(StudioError, match="not saved"):
        save_adapter(run, 1, *resolve.resolve_config(run, ProcessGroup()), spoilt, Disk())
    assert run.adapters() == []


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_names_what_helps(error, run, monkeypatch):
    def full(*_):
        raise error

    monkeypatch.setattr(Objective, "losses", full)
    message = main(run)
    assert "memory" in message and "batch size 1" in message
    assert run.state == "failed"


@pytest.mark.parametrize("error", [AssertionError(), KeyError("unet"), SafetensorError("header"), RuntimeError("no kernel\nat line 3")], ids=repr)
def test_an_unexpected_exception_is_reported_in_the_events_and_raised(error, run, monkeypatch):
    def breaks(*_):
        raise error

    monkeypatch.setattr(Objective, "losses", breaks)
    with pytest.raises(type(error)):
        loop.main([str(run.path)])
    last = run.events()[0][-1]
    assert run.state == "failed" and type(error).__name__ in last["message"] and f"logs/{run.id}.log" in last["message"]


def test_a_device_that_does_not_exist_is_an_error(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, "runtime.device=abacus")
    with open(run.events_file, "ab") as file:
        file.write(b'{"kind": "st')
    assert "'abacus' is not on this computer" in main(run)
    assert run.state == "failed", "also after an incomplete line left by a kill"


@pytest.mark.parametrize("call", [1, 2, 3, 4], ids=["sample", "state", "manifest", "lora"])
def test_a_full_disk_is_an_error_and_a_resume_ends_in_the_same_bytes(call, workspace, tiny_base, run):  # noqa: F811
    class FullDisk(Disk):
        calls = 0

        def write(self, path, data):
            self.calls += 1
            if self.calls == call:
                path.write_bytes(data[: len(data) // 2])
                path.unlink()
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(path, data)

    with pytest.raises(OSError, match="No space"):
        train(run, FullDisk())
    main(run)
    assert run.state == "finished"
    if call == 1:
        uninterrupted = tiny_run(workspace, tiny_base)
        main(uninterrupted)
        assert adapters(run) == adapters(uninterrupted)


@pytest.mark.parametrize("first", ["state.safetensors", "event"])
def test_a_full_disk_is_waited_out_and_no_step_is_lost(first, workspace, tiny_base, run, monkeypatch):  # noqa: F811
    """The disk is full for a while, from the first checkpoint or from an event in the middle on; then there is space again."""
    uninterrupted = tiny_run(workspace, tiny_base)
    main(uninterrupted)
    monkeypatch.setattr(disk_full, "SECONDS_BETWEEN_RETRIES", 0.01)
    honest_write, honest_append, refused = Disk.write, Run.append, []

    def is_full(what: str) -> bool:
        if (refused or what == first) and len(refused) < 4:
            refused.append(what)
        return bool(refused) and len(refused) < 4

    def write(self, path, data):
        if is_full(path.name):
            raise OSError(errno.ENOSPC, "No space left on device")
        honest_write(self, path, data)

    def append(self, event):
        if is_full("event" if event.get("step") == 3 else ""):
            with open(self.events_file, "ab") as file:
                file.write(b'{"half')
            raise OSError(errno.ENOSPC, "No space left on device")
        honest_append(self, event)

    monkeypatch.setattr(Disk, "write", write)
    monkeypatch.setattr(Run, "append", append)
    assert main(run) == "" and len(refused) == 4
    assert run.state == "finished" and adapters(run) == adapters(uninterrupted)
    assert [event["step"] for event in run.curve()] == [1, 2, 3, 4, 5, 6]
    assert b"half" not in run.events_file.read_bytes()


def test_a_stop_request_ends_the_wait_for_disk_space(run, monkeypatch):
    def full(self, path, data):
        run.request_stop()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Disk, "write", full)
    assert "disk is full" in main(run)


def test_a_run_that_waits_for_disk_space_has_the_state_full(run, monkeypatch):
    monkeypatch.setattr(disk_full, "SECONDS_BETWEEN_RETRIES", 0.01)
    monkeypatch.setattr(disk_full, "SPARE_BYTES", 10**18)
    tries, original = [], Disk.write

    def full_once(self, path, data):
        tries.append(path)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, path, data)

    monkeypatch.setattr(Disk, "write", full_once)
    worker = threading.Thread(target=main, args=(run,))
    worker.start()
    deadline = time.monotonic() + 60
    while run.state != "full" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.state == "full"
    full = next(event for event in run.events()[0] if event["kind"] == "full")
    assert full["needed"] > 0 and full["free"] > 0
    monkeypatch.setattr(disk_full, "SPARE_BYTES", 0)
    worker.join()
    assert run.state == "finished" and kinds(run).count("full") == 1


def test_too_little_disk_space_is_an_error_before_the_first_step(run, monkeypatch):
    monkeypatch.setattr(resolve, "SPARE_BYTES", 10**18)
    assert "of disk" in main(run)
    assert "step" not in kinds(run)


def test_two_trainings_of_one_run_are_refused(run):
    with run.lock(), pytest.raises(StudioError, match="in use by"):
        loop.main([str(run.path)])
    assert kinds(run) == []


def test_layers_that_do_not_exist_are_refused(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, 'lora.target_modules=["to_nowhere"]')
    assert "to_nowhere" in main(run)


def test_latents_are_encoded_once_and_keyed_by_the_image(run, tiny_base, monkeypatch):  # noqa: F811
    main(run)
    before = {path.name for path in run.cache_dir.iterdir()}

    def never(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(families.FAMILIES[0].__class__, "encode_images", never)
    main(run)
    assert before == {path.name for path in run.cache_dir.iterdir()}


def test_truncated_captions_are_noted(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, "training.max_train_steps=1")
    snapshot = run.snapshot
    snapshot["pictures"][0]["caption"] = "ohwx " + "red " * 8
    (run.dataset_dir / "dataset.json").write_text(json.dumps(snapshot))
    main(run)
    (note,) = [event["message"] for event in run.events()[0] if event["kind"] == "note" and "captions" in event["message"]]
    assert note.startswith("1 of 5 captions are too long")


def test_a_pause_takes_effect_between_two_samples(run):
    seen = []

    class Asks(Disk):
        def replace(self, path, data):
            super().replace(path, data)
            if path.suffix == ".png" and not seen:
                seen.append(path)

    two = run.config.model_copy(update={"samples": run.config.samples.model_copy(update={"prompts": ["a", "b"]})})
    run.write_config(two)

    class Impatient(Run):
        @property
        def pause_requested(self):
            return len(seen) == 1 and seen.append(None) is None

    train(Impatient(run.path), Asks())
    assert kinds(run)[:4] == ["started", "pausing", "resumed", "sample"]


def test_an_event_cut_in_two_by_a_kill_costs_no_other_event(run):
    run.append({"kind": "started", "step": 0, "total": 6, "resumed": False})
    with open(run.events_file, "ab") as file:
        file.write(b'{"kind": "st')
    main(run)
    assert kinds(run)[:2] == ["started", "started"]


def test_a_pause_saves_the_newest_weights(workspace, tiny_base, run):  # noqa: F811
    uninterrupted = tiny_run(workspace, tiny_base)
    main(uninterrupted)

    class AskedAtTwo(Run):
        looks = 0

        def append(self, event):
            super().append(event)
            if event["kind"] == "step" and event["step"] == 2:
                self.looks = 2

        @property
        def pause_requested(self):
            self.looks -= 1
            return self.looks >= 0

    train(AskedAtTwo(run.path), Disk())
    assert [step for step, _ in run.adapters()] == [2, 3, 6]
    assert adapters(run)[6] == adapters(uninterrupted)[6]


def test_only_the_newest_adapters_saved_for_pauses_are_kept(run, monkeypatch):
    class AskedAtEveryStep(Run):
        looks = 0

        def append(self, event):
            super().append(event)
            if event["kind"] == "step":
                self.looks = 2

        @property
        def pause_requested(self):
            self.looks -= 1
            return self.looks >= 0

    monkeypatch.setattr(loop, "MAX_PAUSE_ADAPTERS", 1)
    train(AskedAtEveryStep(run.path), Disk())
    assert [step for step, _ in run.adapters()] == [3, 5, 6]
