"""Cached encodings: read only for the base, settings and library versions that made them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.benchmark.models import save_tiny
from studio.core import hashes, packages
from studio.families import FAMILIES, get, resolve_base
from studio.families.facts import BaseFolder
from studio.training.checkpoints import Disk
from studio.training.encoding_cache import LIBRARIES, base_identity
from studio.training.loop import train
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures

SD = get("stable-diffusion")
NOT_ENCODING = ("scheduler",)


@pytest.fixture
def copied(tiny_base, tmp_path):  # noqa: F811
    """The tiny base in a folder of its own, to change it."""
    return resolve_base(str(shutil.copytree(tiny_base.path, tmp_path / "base")))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_config_and_tokenizer_file_of_the_encoders_belongs_to_the_key(family, tmp_path):
    base = resolve_base(str(save_tiny(family, tmp_path / "tiny")))
    before = base_identity(base, family, tmp_path / "cache")
    folders = {part: part not in (family.denoiser_name, *NOT_ENCODING) for part in family.components}
    files = {path: folders[part] for part in folders for path in (base.path / part).rglob("*") if path.is_file() and path.suffix != ".safetensors"}
    assert any("tokenizer" in str(path) for path in files) and any(path.parent.name == "vae" for path in files)
    for path, encodes in {**files, base.path / "model_index.json": True}.items():
        original = path.read_bytes()
        path.write_bytes(original + b"\n")
        assert (base_identity(base, family, tmp_path / "cache") != before) == encodes, path
        path.write_bytes(original)
    assert base_identity(base, family, tmp_path / "cache") == before


def test_settings_beside_a_single_file_belong_to_the_key(copied, tmp_path):
    single = BaseFolder(copied.path, None, "dream", "dream", checkpoint=tmp_path / "dream.safetensors")
    save_file({"first_stage_model.weight": torch.zeros(2)}, single.checkpoint)
    before = base_identity(single, SD, tmp_path / "cache")
    scale_latents(copied)
    assert base_identity(single, SD, tmp_path / "cache") != before


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_version_of_each_library_that_encodes_belongs_to_the_key(library, copied, tmp_path, monkeypatch):
    on_the_hub = BaseFolder(copied.path, "0" * 40, "tiny", "someone/tiny")
    before = [base_identity(base, SD, tmp_path) for base in (copied, on_the_hub)]
    installed = packages.installed
    monkeypatch.setattr(packages, "installed", lambda name: "99.0" if name == library else installed(name))
    assert not set(before) & {base_identity(base, SD, tmp_path) for base in (copied, on_the_hub)}


def test_a_base_on_the_hub_is_known_by_its_commit_and_not_read(tmp_path):
    one, other = (BaseFolder(tmp_path / "not there", commit * 40, "tiny", "someone/tiny") for commit in "01")
    assert base_identity(one, SD, tmp_path) == base_identity(one, SD, tmp_path) != base_identity(other, SD, tmp_path)


def test_weights_are_hashed_once_for_several_starts(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "SMALL_BYTES", 0)
    (tmp_path / "cache").mkdir()
    files = sorted(copied.path.rglob("*"))
    first = base_identity(copied, SD, tmp_path / "cache")
    read = []
    monkeypatch.setattr(hashes, "_read", lambda path, mark: read.append(path) or "0" * 64)
    assert base_identity(copied, SD, tmp_path / "cache") == first and read == []
    assert sorted(copied.path.rglob("*")) == files, "the folder of a base is the user's"
    weights = next((copied.path / "vae").glob("*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    assert base_identity(copied, SD, tmp_path / "cache") != first and read == [weights]


def scale_latents(base: BaseFolder) -> None:
    path = base.path / "vae/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "scaling_factor": 5 * config["scaling_factor"]}))


def test_a_run_after_the_autoencoders_settings_changed_encodes_again(workspace, copied):
    settings = ["training.max_train_steps=2", "samples.prompts=[]"]

    def losses() -> list[float]:
        run = tiny_run(workspace, copied, *settings)
        train(run, Disk())
        return [event["loss"] for event in run.curve()]

    before = losses()
    assert losses() == before
    scale_latents(copied)
    after = losses()
    shutil.rmtree(workspace.root / "encodings")
    assert losses() == after != before
