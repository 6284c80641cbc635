"""Homes as earlier versions left them, opened by this one: everything that a person made is there, and what was interrupted goes on.

`tests/homes/make.py` made each with the version in its name. Trainings run in a process pinned to the instructions that every x86-64
processor has (`tests/homes/training.py`), so a resumed run has to end in the recorded numbers, bit for bit. Rounding differs, and the
numbers have to be CLOSE, only where the architecture or the version of a package that computes is not the recorded one, and for
optimizers other than adamw on a processor that takes square roots otherwise.

Tensors are compared and not files, since keys of the header and the spelling of text encoders (`text_encoder.text_model.` or
`text_encoder.`) may change from one version to the next.
"""

import hashlib
import importlib.metadata
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from studio.config.recipe import Recipe, read_recipe
from studio.core.workspace import Home, Workspace
from studio.datasets.dataset import Dataset
from studio.generation.model_cache import ModelCache
from studio.jobs.queue import Jobs
from studio.publishing import plan
from studio.publishing.plan import Request
from studio.publishing.save import save_folder
from studio.runs import library, starting_points, trash
from studio.runs.run import Run
from tests.homes.training import train

HOMES = sorted((Path(__file__).parent / "homes").glob("*.tar.xz"))
CLOSE = 1e-4
"""Largest distance of a tensor from the recorded one that rounding may cause, as a part of its size. Other instructions come to 2e-6, a resume
without the optimizer's state to 0.5 and more."""
LEVELS = 2
"""Largest difference of a pixel, of 255: images are drawn with whatever instructions this processor has."""


@dataclass(frozen=True)
class Old:
    """An unpacked home, and what the version that made it read there."""

    home: Home
    facts: dict

    @property
    def workspace(self) -> Workspace:
        return self.home.workspace("local")

    def exact(self, optimizer: str, roots: str) -> bool:
        """Whether a training has to end in the recorded numbers bit for bit, in a process that takes these `roots`."""
        versions = self.facts["packages"]
        alike = platform.machine() == self.facts["machine"] and all(importlib.metadata.version(name) == versions[name] for name in versions)
        return alike and (optimizer == "adamw" or roots == self.facts["roots"])

    def run(self, run_id: str) -> Run:
        return Run.open(self.workspace, run_id)


@pytest.fixture(params=HOMES, ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def old(request, tmp_path, monkeypatch) -> Old:
    with tarfile.open(request.param) as archive:
        # Our own archive; Python 3.11 has had the filter since 3.11.4.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    # Its runs and recipes name the base "~/models/tiny-model".
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    return Old(Home(tmp_path / "home"), json.loads((tmp_path / "facts.json").read_text()))


def holds(now, then, *but: str) -> bool:
    """Whether every recorded value is there still; a later version may have more."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(key in now and holds(now[key], value) for key, value in then.items() if key not in but)
    return now == then


def tensors(file: Path) -> dict[str, torch.Tensor]:
    return {name.replace("text_encoder.text_model.", "text_encoder."): tensor for name, tensor in load_file(file).items()}


def distance(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Of two adapters: that of the tensor that is furthest away, as a part of its size."""
    assert found.keys() == wanted.keys()
    return max(float((found[name].double() - tensor.double()).norm() / tensor.double().norm()) for name, tensor in wanted.items())


def test_there_is_a_home_of_a_released_version():
    assert HOMES


def test_datasets_have_their_images_captions_and_masks(old):
    datasets = {dataset.id: dataset for dataset in Dataset.all(old.workspace)}
    assert datasets.keys() == old.facts["datasets"].keys()
    for dataset_id, then in old.facts["datasets"].items():
        dataset = datasets[dataset_id]
        for fact in ("title", "subject", "real_person", "consent", "trigger_word"):
            assert getattr(dataset, fact) == then[fact]
        assert dataset.sha256() == then["sha256"]
        assert [picture.id for picture in dataset.removed] and dataset.removed[0].file.exists() if then["removed"] else not dataset.removed
        assert {picture.id for picture in dataset.images} == then["pictures"].keys()
        for picture in dataset.images:
            known = then["pictures"][picture.id]
            for fact in ("name", "caption", "caption_source", "width", "height", "looks_like_photo"):
                assert getattr(picture, fact) == known[fact]
            assert picture.file.exists() and picture.thumb.exists()
            assert (picture.mask.stem if picture.mask else None) == known["mask"]
            assert picture.mask is None or picture.mask.exists()


def test_captions_and_masks_are_undone_to_what_was_before(old):
    for dataset_id, then in old.facts["datasets"].items():
        dataset = Dataset.open(old.workspace, dataset_id)
        for picture_id, known in then["undone"].items():
            assert dataset.undo_caption(picture_id) == known["caption"]
            mask = dataset.undo_mask(picture_id)
            assert (mask.stem if mask else None) == known["mask"] and (mask is None or mask.exists())


def test_what_was_removed_is_listed_and_comes_back(old):
    removed = trash.list_removed(old.workspace)
    assert [(title, each.original.parent.name, each.original.name) for each, title in removed] == [
        (then["title"], then["kind"], then["name"]) for then in old.facts["removed"]
    ]
    for each, _ in removed:
        assert old.workspace.restore(each.id).exists()
    assert trash.list_removed(old.workspace) == []
    titles = {"datasets": [each.title for each in Dataset.all(old.workspace)], "runs": [each.title for each in Run.all(old.workspace)]}
    titles["presets"] = [preset.title for preset in starting_points.saved_presets(old.workspace)]
    assert all(then["title"] in titles[then["kind"]] for then in old.facts["removed"])
    for dataset_id, then in old.facts["datasets"].items():
        dataset = Dataset.open(old.workspace, dataset_id)
        gone = [picture.id for picture in dataset.removed]
        assert [picture.name for picture in dataset.removed] == then["removed"] and dataset.restore(gone) == len(gone)
        assert dataset.removed == [] and set(gone) <= {picture.id for picture in dataset.images}


def test_runs_have_their_state_settings_and_saves(old):
    runs = Run.all(old.workspace)
    assert [run.id for run in runs] == sorted(old.facts["runs"], key=lambda run_id: old.run(run_id).snapshot["created"], reverse=True)
    for run in runs:
        then = old.facts["runs"][run.id]
        assert (run.title, run.state) == (then["title"], then["state"])
        assert holds(run.config.model_dump(mode="json"), then["config"], "version")
        assert len(run.snapshot["pictures"]) == then["pictures"]
        assert [step for step, _ in run.adapters()] == then["adapters"]
        assert {str(step): len(files) for step, files in run.samples().items()} == then["samples"]
        assert {str(event["step"]): event["loss"] for event in run.curve()} == then["losses"]


def test_the_library_lists_every_adapter_as_it_was(old):
    cards = {card.ref: card for card in library.list_adapters(old.workspace)}
    assert old.facts["adapters"].keys() <= cards.keys()
    for ref, then in old.facts["adapters"].items():
        assert {fact: getattr(cards[ref], fact) for fact in then} == then


def test_images_carry_their_recipes(old):
    assert {path.stem for path in old.workspace.images.glob("*.png")} == old.facts["images"].keys()
    for image_id, then in old.facts["images"].items():
        assert holds(read_recipe(old.workspace.image_path(image_id).read_bytes()).model_dump(), then)


def test_ones_own_presets_have_their_values(old):
    known = {preset.name: preset for preset in starting_points.saved_presets(old.workspace)}
    assert known.keys() == old.facts["presets"].keys()
    for name, then in old.facts["presets"].items():
        assert (known[name].title, known[name].values) == (then["title"], then["values"])
        dataset = Dataset.all(old.workspace)[0]
        assert starting_points.build_config(old.workspace, dataset, name).lora.rank == then["values"]["lora"]["rank"]


def test_the_queue_has_every_job_and_those_that_wait_keep_their_order(old):
    jobs = Jobs(old.home.database)
    for job, then in zip(jobs.list(limit=1000), old.facts["jobs"], strict=True):
        assert {fact: getattr(job, fact) for fact in then} == then
    assert [job.id for job in jobs.queue()] == old.facts["queue"]
    assert {"waiting", "done", "failed", "interrupted", "cancelled"} == {job.state for job in jobs.list(limit=1000)}


def test_an_old_recipe_draws_the_recorded_image_with_old_adapters(old):
    models, drawn = ModelCache(), {}
    for image_id, then in old.facts["images"].items():
        if then["base_model"].startswith("~"):
            recorded = old.workspace.image_path(image_id).read_bytes()
            png, recipe, notes = models.generate(read_recipe(recorded), old.workspace, lambda done, total: None)
            now, before = (numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int) for data in (png, recorded))
            assert notes == [] and recipe == Recipe.model_validate(then)
            assert now.shape == before.shape and abs(now - before).max() <= LEVELS, image_id
            drawn[len(recipe.stack)] = now
    # Or a stack that does nothing would pass.
    assert abs(drawn[3] - drawn[0]).max() > 10 * LEVELS


def test_interrupted_runs_end_in_the_recorded_adapter_and_those_that_wait_train(old):
    interrupted = {run_id: then["resumes_to"] for run_id, then in old.facts["runs"].items() if then["resumes_to"]}
    waiting = [run_id for run_id, then in old.facts["runs"].items() if then["state"] == "created"]
    optimizers = [{old.run(run_id).config.training.optimizer for run_id in group} for group in (interrupted, waiting)]
    assert optimizers[0] == optimizers[1] and len(optimizers[0]) >= 4, "every optimizer of the version that made this home"
    safe = {run_id: sorted(path.name for path in old.run(run_id).checkpoints_dir.glob("step-*"))[-1] for run_id in interrupted}
    roots = train(old.run(run_id) for run_id in (*interrupted, *waiting))
    for run_id in (*interrupted, *waiting):
        run = old.run(run_id)
        optimizer = run.config.training.optimizer
        assert run.state == "finished", (run.title, run.events()[0][-1])
        if run_id in interrupted:
            started = [event for event in run.events()[0] if event["kind"] == "started"][-1]
            assert started["resumed"] and f"step-{started['step']:06d}" == safe[run_id]
            apart = distance(tensors(run.latest_adapter()), tensors(old.run(interrupted[run_id]).latest_adapter()))
            assert apart == 0 if old.exact(optimizer, roots) else apart < CLOSE, (run.title, apart)


def test_finished_runs_are_prepared_for_publishing_without_loss(old, tmp_path):
    for run_id, then in old.facts["runs"].items():
        if then["state"] != "finished":
            continue
        asked = Request(adapter=f"run:{run_id}", licence="apache-2.0", base_licence="my own", rights="I drew these.", stated_by="Ana")
        made = plan.plan(old.workspace, asked)
        made.check()
        folder = save_folder(made, tmp_path / run_id)
        weights = (folder / "pytorch_lora_weights.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest() == old.facts["adapters"][f"run:{run_id}"]["sha256"]
        assert len(list(folder.glob("images/*.png"))) == sum(then["samples"].values())
        studio = json.loads((folder / "lora_studio.json").read_text())
        assert (studio["steps"], studio["pictures"]) == (then["adapters"][-1], then["pictures"])
        # The base is called by its name and the dataset by its hash: neither its path nor its id leaves the computer.
        for section, values in then["config"].items():
            assert holds(studio["config"][section], values, "base_model", "id") if isinstance(values, dict) else section == "version"
        card = (folder / "README.md").read_text()
        assert all(words in card for words in (then["title"], then["config"]["dataset"]["trigger_word"], "tiny-model", "I drew these."))
