"""Every family's base from the Hub: only its parts, at a commit that the run keeps, and with the page to open where terms are to be accepted."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from studio.core.errors import StudioError
from studio.families import FAMILIES, locate_base, resolve_base
from studio.training.distributed import ProcessGroup
from studio.training.resolve import resolve_config
from tests.families.members import Member
from tests.tiny import tiny_run


def with_decoys(member: Member, folder: Path) -> Path:
    """The member's folder once more, with others' files beside its parts."""
    shutil.copytree(member.base.path, folder)
    (folder / "safety_checker").mkdir()
    for decoy in ("safety_checker/model.safetensors", "all-in-one.safetensors", f"{member.family.denoiser_name}/diffusion_pytorch_model.bin"):
        (folder / decoy).write_bytes(b"never fetched")
    return folder


def offered(family) -> str:
    return next(offer.id for offer in family.offers if not offer.shipped)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_run_writes_down_which_commit_its_base_was_and_keeps_to_it(family, tiny, tmp_path, fake_hub, workspace):
    commit = fake_hub.seed_repo(offered(family), with_decoys(tiny(family.name), tmp_path / "repo"))
    base = resolve_base(offered(family))
    assert (base.revision, base.id) == (commit, offered(family)) and locate_base(offered(family)) == base
    assert {path.name for path in base.path.iterdir() if path.is_dir()} == set(family.components)
    assert not [path for path in base.path.rglob("*") if path.suffix == ".bin" or path.name == "all-in-one.safetensors"]
    assert family.load(base, torch.float32, parts=("vae",)).vae is not None

    run = tiny_run(workspace, dataclasses.replace(base, path=offered(family)), f"model.family={family.name}")
    assert run.config.model.revision is None
    resolve_config(run, ProcessGroup(1))
    assert run.config.model.revision == commit
    fake_hub.seed_files(offered(family), {"README.md": b"newer"})
    again, kept, _ = resolve_config(run, ProcessGroup(1))
    assert kept == base and again.model.revision == commit


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_base_whose_terms_nobody_accepted_names_the_page_to_open(family, fake_hub):
    fake_hub.seed_files(offered(family), {"model_index.json": b"{}"}, gated=True)
    with pytest.raises(StudioError, match=f"accepted its terms: open {fake_hub.endpoint}/{offered(family)}, accept them, then log in"):
        resolve_base(offered(family))
