"""What every family must do, proved on a tiny member of real classes: learn, and be read by plain diffusers as the studio draws it."""

import functools
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file

from studio import config as configs
from studio.adapters.format import fingerprint, load_adapter, read_header
from studio.benchmark.tiny import TinyDataset
from studio.config.recipe import Recipe
from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.families import FAMILIES
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.generation.generator import Generator
from studio.runs.creation import create_run
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.loop import train
from tests.families.members import Member, in_file

PROMPT = "ohwx a red cat"
STEPS = 32
"""Enough for the loss to fall."""
FEW_STEPS = 20
"""Enough to change a picture, where nothing is asked but that the file is read back."""


@dataclass(frozen=True)
class Trained:
    family: Family
    base: BaseFolder
    run: Run
    generator: Generator


def train_tiny(member: Member, root: Path, steps: int, method: str, text_encoder: bool) -> Trained:
    """Rank 4, alpha 8, a batch of four pictures."""
    name, family, base = member.family.name, member.family, member.base
    values = {
        "model": {"family": name, "base_model": str(base.path)},
        "dataset": {"resolution": 64, "trigger_word": "ohwx"},
        "lora": {"rank": 4, "alpha": 8.0, "method": method, "text_encoder": text_encoder},
        "training": {"max_train_steps": steps, "train_batch_size": 4, "learning_rate": 5e-3, "timestep_density": "uniform"},
        "samples": {"prompts": [PROMPT] if steps == STEPS else [], "every": steps, "num_inference_steps": 2, "resolution": 64},
        "saving": {"checkpoint_every": steps},
        "validation": {"pictures": 1, "every": steps // 2},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    workspace = Home(root / name / "home").workspace("local")
    dataset = TinyDataset(root / name / "pictures", count=5, sizes=((64, 64),))
    run = create_run(workspace, configs.build(values), dataset)
    train(run, Disk())
    return Trained(family, base, run, Generator(base, family))


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Callable[..., Trained]:
    """Kind -> its run, made once."""
    root = tmp_path_factory.mktemp("trained")

    @functools.cache
    def made(kind: str, steps: int = STEPS, method: str = "lora", text_encoder: bool = False) -> Trained:
        return train_tiny(tiny(kind), root, steps, method, text_encoder)

    return made


@pytest.fixture(params=[family.name for family in FAMILIES])
def one(request, trained) -> Trained:
    return trained(request.param)


def recipe(one: Trained) -> Recipe:
    return Recipe(prompt=PROMPT, family=one.family.name, base_model=str(one.base.path), num_inference_steps=2, guidance_scale=3.0)


def drawn(one: Trained, weight: float | None) -> numpy.ndarray:
    stack = [] if weight is None else [(one.run.latest_adapter(), weight)]
    return numpy.asarray(one.generator.generate(recipe(one).model_copy(update={"width": 64, "height": 64}), stack))


def plain(one: Trained, adapter: Path | None) -> tuple[numpy.ndarray, set[str]]:
    """The picture by diffusers alone, and the keys that it took from the file."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(one.base.path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    taken = set()
    if adapter:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
        parts = {name: pipeline.components[name] for name in (one.family.denoiser_name, *one.family.text_encoder_targets)}
        for name, part in parts.items():
            if any(".lora_" in each or ".lokr_" in each for each, _ in part.named_parameters()):
                taken |= {in_file(name, part, key) for key in get_peft_model_state_dict(part, adapter_name="default_0")}
    generator = torch.Generator("cpu").manual_seed(recipe(one).seed)
    picture = pipeline(prompt=PROMPT, **one.family.code_arguments(3.0), num_inference_steps=2, width=64, height=64, generator=generator).images[0]
    return numpy.asarray(picture), taken


def test_it_learns_and_says_so_about_pictures_held_back_too(one):
    losses = [event["loss"] for event in one.run.curve()]
    assert numpy.mean(losses[-10:]) < numpy.mean(losses[:10])
    held = [event["loss"] for event in one.run.events()[0] if event["kind"] == "validation"]
    assert len(held) == 2 and all(numpy.isfinite(held))


def test_plain_diffusers_takes_every_key_and_draws_the_studios_picture(one):
    adapter = one.run.latest_adapter()
    picture, taken = plain(one, adapter)
    assert taken == set(read_header(adapter).tensors), "missing or unexpected keys"
    ours = drawn(one, 1.0)
    assert numpy.array_equal(picture, ours), f"differs by up to {numpy.abs(picture.astype(int) - ours).max()}"
    assert not numpy.array_equal(ours, drawn(one, None))


def test_weight_nought_is_the_base(one):
    base, _ = plain(one, None)
    assert numpy.array_equal(drawn(one, 0.0), base) and numpy.array_equal(drawn(one, None), base)


def test_the_film_and_the_file_agree(one):
    from PIL import Image

    assert sorted(one.run.samples()) == [0, STEPS]
    last = one.run.samples()[STEPS][0]
    with Image.open(last) as picture:
        assert picture.size == (64, 64)


def test_adapters_of_every_other_family_are_refused_by_name(one, trained):
    for other in FAMILIES:
        if other.name != one.family.name:
            adapter = trained(other.name).run.latest_adapter()
            said = re.escape(f"made for {fingerprint(read_header(adapter)).title}; the chosen base is {one.family.title}.")
            with pytest.raises(StudioError, match=said):
                load_adapter(adapter, one.family)
            with pytest.raises(StudioError, match=f"made for .*{other.title.split()[0]}"):
                one.generator.generate(recipe(one), [(adapter, 1.0)])


def test_the_same_run_again_is_the_same_file(one, tmp_path):
    """From its settings and pictures alone, carried to another place, where nothing else is touched."""
    again = Run(tmp_path / "again")
    shutil.copytree(one.run.path, again.path, ignore=shutil.ignore_patterns("checkpoints", "adapters", "samples", "events.jsonl"))
    train(again, Disk())
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    assert again.latest_adapter().read_bytes() == one.run.latest_adapter().read_bytes()


WAYS = [(family.name, "dora", False) for family in FAMILIES] + [(family.name, "lora", True) for family in FAMILIES if family.text_encoder_targets]
WAYS += [(family.name, "lokr", False) for family in FAMILIES if family.reads_lokr]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0]}-{way[1]}{'-words' if way[2] else ''}")
def test_other_kinds_of_adapter_are_read_by_plain_diffusers_as_the_studio_draws_them(way, trained):
    kind, method, text_encoder = way
    one = trained(kind, FEW_STEPS, method, text_encoder)
    adapter = one.run.latest_adapter()
    picture, taken = plain(one, adapter)
    assert taken == set(read_header(adapter).tensors), "missing or unexpected keys"
    ours = drawn(one, 1.0)
    assert numpy.array_equal(picture, ours), f"differs by up to {numpy.abs(picture.astype(int) - ours).max()}"
    assert not numpy.array_equal(ours, drawn(one, None))
    if text_encoder:
        words = load_file(adapter)
        of_text = {name for name in words if name.startswith("text_encoder")}
        assert of_text and all(re.match(r"text_encoder(_2)?\.text_model\.encoder\.layers\.", name) for name in of_text)
        assert any(name.startswith("text_encoder") and name.endswith("lora_B.weight") and words[name].abs().sum() > 0 for name in words)


def test_lokr_is_refused_where_diffusers_could_not_read_it_back(trained):
    with pytest.raises(StudioError, match="reads no LoKr files of SDXL"):
        trained("sdxl", method="lokr")
