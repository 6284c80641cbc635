"""A base model from a single .safetensors file: found, completed, refused in words, taught and drawn with."""

import dataclasses
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from studio import families
from studio.adapters import header as headers
from studio.adapters.format import read_header
from studio.benchmark.models import save_tiny
from studio.config.recipe import Recipe
from studio.core.errors import StudioError
from studio.families import bases, get, locate_base, resolve_base, single_file
from studio.families.flux import SCHNELL
from studio.families.stable_diffusion import SD15
from studio.generation.generator import Generator
from studio.publishing import plan
from studio.publishing.plan import Request
from studio.publishing.save import save_folder
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.encoding_cache import base_identity
from studio.training.loop import train
from studio.ui.components import bases as base_list
from tests.families.originals import save_original
from tests.tiny import lora_tensors, save_lora, tiny_base, tiny_pipeline, tiny_run  # noqa: F401 - fixtures

SD, FLUX = get("stable-diffusion"), get("flux")


@pytest.fixture(scope="session")
def made(tmp_path_factory, tiny_base):  # noqa: F811
    """A file with a whole tiny Stable Diffusion in it; tests copy it."""
    return save_original("stable-diffusion", SD.load(tiny_base, torch.float32), tmp_path_factory.mktemp("made") / "My Dream.safetensors")


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory):
    return save_tiny(FLUX, tmp_path_factory.mktemp("flux") / "tiny-flux")


@pytest.fixture(scope="session")
def flux_file(tmp_path_factory, flux_folder):
    """The names and shapes of a FLUX.1 without guidance; what it holds is never loaded here."""
    pipeline = FLUX.load(resolve_base(str(flux_folder)), torch.float32, parts=("transformer",))
    made = save_original("flux", pipeline, flux_folder.parent / "flux.safetensors")
    save_file({name: tensor for name, tensor in load_file(made).items() if "guidance" not in name}, made)
    return made


@pytest.fixture
def alone(made, tmp_path):
    """The file in a folder with nothing else."""
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture
def beside(made, tiny_base, tmp_path):  # noqa: F811
    """The file in a folder with the settings of its kind, and no weights but its own."""
    shutil.copytree(tiny_base.path, tmp_path / "dream", ignore=shutil.ignore_patterns("*.safetensors"))
    return Path(shutil.copy(made, tmp_path / "dream"))


def fetched_names(base) -> list[str]:
    return sorted(path.relative_to(base.path).as_posix() for path in base.path.rglob("*") if path.is_file())


# Where the rest comes from


def test_the_rest_of_a_whole_file_is_the_small_files_of_the_base_it_is_like(fake_hub, alone, tiny_base):  # noqa: F811
    commit = fake_hub.seed_repo(SD15.id, tiny_base.path)
    base = resolve_base(str(alone))
    assert (base.revision, base.reference, base.checkpoint, base.id, base.title) == (commit, SD15.id, alone, "My Dream.safetensors", "My Dream")
    names = fetched_names(base)
    assert not any(name.endswith(".safetensors") for name in names)
    assert {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"} <= set(names)
    assert SD.load(base, torch.float32).unet is not None


def test_the_rest_of_a_denoiser_is_the_whole_base_but_its_denoiser(fake_hub, flux_file, flux_folder, tmp_path):
    commit = fake_hub.seed_repo(SCHNELL.id, flux_folder)
    base = resolve_base(str(shutil.copy(flux_file, tmp_path / "merge.safetensors")))
    assert (base.revision, base.reference) == (commit, SCHNELL.id)
    weights = {name.split("/")[0] for name in fetched_names(base) if name.endswith(".safetensors")}
    assert weights == {"vae", "text_encoder", "text_encoder_2"} and "transformer/config.json" in fetched_names(base)


def test_a_run_goes_on_with_the_commit_it_began_with(fake_hub, alone, tiny_base):  # noqa: F811
    first = fake_hub.seed_repo(SD15.id, tiny_base.path)
    assert resolve_base(str(alone)).revision == first
    changed = (tiny_base.path / "scheduler" / "scheduler_config.json").read_bytes() + b" "
    second = fake_hub.seed_files(SD15.id, {"scheduler/scheduler_config.json": changed})
    assert resolve_base(str(alone), first).revision == first and resolve_base(str(alone)).revision == second
    shutil.copytree(tiny_base.path, alone.parent, dirs_exist_ok=True)
    assert resolve_base(str(alone), first).revision == first, "a folder that came to lie beside it changes nothing"
    assert resolve_base(str(alone)).revision is None


def test_it_is_located_only_with_its_rest_and_nothing_is_asked(fake_hub, alone, tiny_base):  # noqa: F811
    commit = fake_hub.seed_repo(SD15.id, tiny_base.path)
    assert locate_base(str(alone)) is None and fake_hub.seen == []
    fetched = resolve_base(str(alone))
    asked = len(fake_hub.seen)
    assert locate_base(str(alone)) == locate_base(str(alone), commit) == fetched
    assert locate_base(str(alone), "another") is None and len(fake_hub.seen) == asked
    (fetched.path / "unet" / "config.json").unlink()
    assert locate_base(str(alone)) is None


def test_a_denoiser_is_not_located_while_other_weights_are_missing(fake_hub, flux_file, flux_folder, tmp_path):
    fake_hub.seed_repo(SCHNELL.id, flux_folder)
    file = shutil.copy(flux_file, tmp_path / "merge.safetensors")
    fetched = resolve_base(str(file))
    assert locate_base(str(file)) == fetched
    (fetched.path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert locate_base(str(file)) is None


def test_a_folder_of_its_kind_around_it_makes_the_network_needless(fake_hub, beside):
    base = resolve_base(str(beside))
    assert (base.path, base.revision, base.reference, base.checkpoint) == (beside.parent, None, "", beside)
    assert locate_base(str(beside)) == base and families.detect(str(beside)) is SD
    assert SD.load(base, torch.float32).vae is not None and fake_hub.seen == []


def test_a_folder_of_another_kind_around_it_is_not_its_rest(fake_hub, flux_file, flux_folder, tiny_base, tmp_path):  # noqa: F811
    fake_hub.seed_repo(SCHNELL.id, flux_folder)
    shutil.copytree(tiny_base.path, tmp_path / "mixed")
    base = resolve_base(str(shutil.copy(flux_file, tmp_path / "mixed" / "merge.safetensors")))
    assert base.reference == SCHNELL.id


def test_a_rest_that_lacks_something_is_named(beside, flux_file, flux_folder, tmp_path):
    (beside.parent / "vae" / "config.json").unlink()
    with pytest.raises(StudioError, match="'My Dream' has no vae/config.json"):
        resolve_base(str(beside))
    shutil.copytree(flux_folder, tmp_path / "rest", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(StudioError, match="no safetensors weights in vae/"):
        resolve_base(str(shutil.copy(flux_file, tmp_path / "rest" / "merge.safetensors")))


def test_terms_to_accept_are_said_with_the_page_and_the_way_around(fake_hub, alone, tiny_base):  # noqa: F811
    fake_hub.seed_repo(SD15.id, tiny_base.path, gated=True)
    page = f"{fake_hub.endpoint}/{SD15.id}"
    with pytest.raises(StudioError, match=f"My Dream.safetensors needs the settings of .* open {page}, accept them.* To use it offline"):
        resolve_base(str(alone))


# How it may be spelt


@pytest.mark.parametrize(
    "spelling", ["{path}", "  {path}  ", '"{path}"', "./dream/My Dream.safetensors", "dream/My Dream.safetensors", "~/dream/My Dream.safetensors"]
)
def test_a_file_is_found_however_its_path_is_written(spelling, beside, monkeypatch):
    monkeypatch.chdir(beside.parents[1])
    monkeypatch.setenv("HOME", str(beside.parents[1]))
    name = spelling.format(path=beside)
    assert resolve_base(name).checkpoint == beside and families.detect(name) is SD


@pytest.mark.parametrize(
    "share", ["\\\\evil.example\\share\\a.safetensors", "//evil.example/a.safetensors", '"\\\\evil.example\\a.safetensors"', " //evil.example/a.ckpt"]
)
def test_a_file_on_another_computer_is_refused_before_anything_is_opened(share, monkeypatch):
    monkeypatch.setattr(families, "Path", None)
    monkeypatch.setattr(families.os.path, "isfile", None)
    assert locate_base(share) is None and families.detect(share) is None
    with pytest.raises(StudioError, match="network path"):
        resolve_base(share)


# What is refused


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.bin", "a.pth", "a.CKPT"])
def test_a_pickle_is_refused_unopened(name, tmp_path, fake_hub):
    for path in (tmp_path / name, Path(name)):
        with pytest.raises(StudioError, match="is a pickle, which can run code when opened. Only .safetensors files are supported"):
            resolve_base(str(path))
        assert locate_base(str(path)) is None and families.detect(str(path)) is None
    assert fake_hub.seen == []


def test_a_pickle_called_safetensors_is_refused_by_its_first_bytes(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04" + b"x" * 100)
    with pytest.raises(StudioError, match="is a pickle"):
        resolve_base(str(tmp_path / "a.safetensors"))


def test_a_lora_is_called_one_and_shown_its_place(tiny_pipeline, tmp_path):  # noqa: F811
    path = save_lora(tmp_path / "ink.safetensors", lora_tensors(tiny_pipeline))
    with pytest.raises(StudioError, match="ink.safetensors is a LoRA for Stable Diffusion, not a base model.* Add a LoRA"):
        resolve_base(str(path))


NOT_BASES = {
    "nothing of it is known": ({"foo.weight": torch.zeros(2)}, "not a supported single-file base model .its first tensor is 'foo.weight'"),
    "nothing in it": ({}, "first tensor is 'nothing at all'"),
    "for painting into pictures": (
        lambda whole: whole | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)},
        "not a supported",
    ),
    "no autoencoder": (lambda whole: {k: t for k, t in whole.items() if "first_stage" not in k}, "Stable Diffusion model without its vae"),
    "packed": (lambda whole: whole | {"model.diffusion_model.out.2.scale_weight": torch.zeros(())}, "is quantised .* bf16 or fp16"),
}


@pytest.mark.parametrize("case", NOT_BASES)
def test_what_is_no_base_is_refused_in_a_sentence(case, made, tmp_path):
    tensors, words = NOT_BASES[case]
    save_file(tensors(load_file(made)) if callable(tensors) else tensors, tmp_path / "a.safetensors")
    with pytest.raises(StudioError, match=words):
        resolve_base(str(tmp_path / "a.safetensors"))
    assert locate_base(str(tmp_path / "a.safetensors")) is None


def test_packed_parts_that_are_not_used_do_not_matter(flux_file, flux_folder, tmp_path):
    shutil.copytree(flux_folder, tmp_path / "rest")
    around = {"text_encoders.t5xxl.scaled_fp8": torch.zeros(0), "text_encoders.t5xxl.shared.scale_weight": torch.zeros(())}
    save_file({f"{single_file.DENOISER}{k}": t for k, t in load_file(flux_file).items()} | around, tmp_path / "rest" / "all.safetensors")
    assert resolve_base(str(tmp_path / "rest" / "all.safetensors")).checkpoint


def test_one_part_of_several_leads_to_the_folder(tmp_path):
    save_file({"transformer_blocks.0.txt_mlp.net.0.proj.weight": torch.zeros(2)}, tmp_path / "diffusion_pytorch_model-00001-of-00009.safetensors")
    with pytest.raises(StudioError, match="one shard of a model; choose the folder"):
        resolve_base(str(tmp_path / "diffusion_pytorch_model-00001-of-00009.safetensors"))


ABSENT = ["/none/a.safetensors", "a.safetensors", "/" + "a" * 300 + ".safetensors", "/a\0b.safetensors", ".safetensors", "~x/a.safetensors"]
ABSENT += ["C:\\models\\a.safetensors", "owner/name.safetensors"]


@pytest.mark.parametrize("name", ABSENT)
def test_a_file_that_is_not_there_is_said_so(name, fake_hub):
    assert locate_base(name) is None
    with pytest.raises(StudioError, match="There is no file"):
        resolve_base(name)
    assert fake_hub.seen == []


def test_a_folder_called_like_a_file_is_no_file(tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(StudioError, match="There is no file"):
        resolve_base(str(tmp_path / "a.safetensors"))


def test_a_download_that_was_cut_off_is_noticed_in_the_header(made, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(made.read_bytes()[:-100])
    with pytest.raises(StudioError, match="is damaged: its tensors take"):
        resolve_base(str(tmp_path / "a.safetensors"))


def test_a_header_may_be_as_large_as_a_base_needs_and_no_larger(tmp_path, monkeypatch):
    path, few = tmp_path / "a.safetensors", dataclasses.replace(headers.CHECKPOINT, tensors=30, header_bytes=10_000)
    assert headers.CHECKPOINT.tensors > headers.LORA.tensors and headers.CHECKPOINT.header_bytes > headers.LORA.header_bytes
    monkeypatch.setattr(headers, "CHECKPOINT", few)

    def write(count: int, room: int = 0) -> None:
        text = json.dumps({f"t{index}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for index in range(count)}).encode() + b" " * room
        path.write_bytes(struct.pack("<Q", len(text)) + text)

    for count, room, words in ((30, 0, "not a supported"), (31, 0, "has 31 tensors; a base model has at most 30"), (1, 10_000, "is not a complete")):
        write(count, room)
        with pytest.raises(StudioError, match=words):
            resolve_base(str(path))


def test_only_the_header_is_read_and_once(made, monkeypatch):
    read, counted = headers.read_header, []
    monkeypatch.setattr(headers, "read_header", lambda path, limits: counted.append(path) or read(path, limits))
    copy = made.with_name("another.safetensors")
    shutil.copy(made, copy)
    assert families.detect(str(copy)) is families.detect(str(copy)) is SD and len(counted) == 1


def test_it_is_recognised_without_torch(beside):
    code = (
        f"import sys; from studio.families import *; b = resolve_base({str(beside)!r}); f = detect({str(beside)!r});"
        "f.width(b); f.architecture(b); assert b.checkpoint and not {'torch', 'diffusers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What was encoded belongs to the weights that did it


def test_encodings_are_kept_for_the_weights_that_made_them(fake_hub, beside, flux_file, flux_folder, made, tmp_path):
    whole = base_identity(resolve_base(str(beside)), SD, tmp_path)
    renamed = Path(shutil.copy(beside, beside.with_name("same.safetensors")))
    assert base_identity(resolve_base(str(renamed)), SD, tmp_path) == whole
    changed = {name: tensor + 1 if "quant_conv.bias" in name else tensor for name, tensor in load_file(made).items()}
    save_file(changed, beside.with_name("changed.safetensors"))
    assert base_identity(resolve_base(str(beside.with_name("changed.safetensors"))), SD, tmp_path) != whole
    commit = fake_hub.seed_repo(SCHNELL.id, flux_folder)
    merge = resolve_base(str(shutil.copy(flux_file, tmp_path / "merge.safetensors")))
    assert base_identity(merge, FLUX, tmp_path) == base_identity(resolve_base(SCHNELL.id), FLUX, tmp_path)
    assert base_identity(merge, FLUX, tmp_path).startswith(f"{SCHNELL.id}@{commit} ")


# Taught and drawn with


@pytest.fixture
def trained(workspace, beside) -> Run:
    run = tiny_run(workspace, dataclasses.replace(resolve_base(str(beside)), path=beside))
    train(run, Disk())
    return run


def pixels(picture) -> bytes:
    with Image.open(picture) as opened:
        return opened.convert("RGB").tobytes()


def test_it_learns_stops_and_goes_on_to_the_same_bytes(trained, beside, workspace):
    header = read_header(trained.latest_adapter())
    facts = json.loads(header.metadata["studio"])
    assert (facts["base_model"], facts["base_revision"], facts["config"]["model"]["base_model"]) == (beside.name, None, beside.name)
    assert facts["base_parts"] == {"id": "", "revision": None, "schedule": {}}
    assert str(beside.parent).encode() not in trained.latest_adapter().read_bytes()
    assert trained.state == "finished" and trained.config.model.revision is None

    class StopsAtThree(Run):
        def append(self, event):
            super().append(event)
            if event["kind"] == "step" and event["step"] == 3:
                self.request_stop()

    again = tiny_run(workspace, dataclasses.replace(resolve_base(str(beside)), path=beside))
    train(StopsAtThree(again.path), Disk())
    assert again.state == "stopped"
    train(again, Disk())
    assert again.latest_adapter().read_bytes() == trained.latest_adapter().read_bytes()


def test_a_generator_draws_the_films_picture_from_the_file(trained, beside):
    base = resolve_base(str(beside))
    recipe = Recipe(prompt="ohwx picture of a cat", base_model=str(beside), num_inference_steps=2, seed=trained.config.samples.seed)
    recipe = recipe.model_copy(update={"guidance_scale": trained.config.samples.guidance_scale})
    drawn = Generator(base, SD).generate(recipe, [(trained.latest_adapter(), 1.0)])
    assert drawn.convert("RGB").tobytes() == pixels(trained.samples()[6][0])


def test_a_run_keeps_the_commit_of_its_rest(fake_hub, workspace, alone, tiny_base):  # noqa: F811
    commit = fake_hub.seed_repo(SD15.id, tiny_base.path)
    run = tiny_run(workspace, dataclasses.replace(tiny_base, path=alone), "training.max_train_steps=1", "samples.prompts=[]")
    train(run, Disk())
    assert run.config.model.revision == commit
    facts = json.loads(read_header(run.latest_adapter()).metadata["studio"])
    assert facts["base_parts"] == {"id": SD15.id, "revision": commit, "schedule": {}} and facts["base_revision"] is None
    fake_hub.seed_files(SD15.id, {"README.md": b"newer"})
    assert resolve_base(run.config.model.base_model, run.config.model.revision).revision == commit

    card = plan.plan(workspace, Request(adapter=f"run:{run.id}", repo="ink", rights="mine")).card
    assert f'config="{SD15.id}", revision="{commit}"' in card
    assert f"https://huggingface.co/{SD15.id}), revision `{commit}`" in card


# On the page


def test_a_file_that_is_chosen_is_known_by_its_header_and_is_here_once_its_rest_is(fake_hub, alone, beside, tiny_base):  # noqa: F811
    whole, lacking = bases.get_base(str(beside)), bases.get_base(str(alone))
    assert (whole.family, whole.is_local, whole.title, whole.offer) == (SD, True, "My Dream", None)
    assert (lacking.family, lacking.is_local, lacking.title, lacking.sampling) == (SD, False, "My Dream.safetensors", SD15.sampling)
    assert "one file" in base_list.describe_base(str(beside), None) and "downloaded from the Hub" in base_list.describe_base(str(alone), None)
    assert "is not a base model" in base_list.describe_base(str(alone.parent / "gone.safetensors"), None) and fake_hub.seen == []
    fake_hub.seed_repo(SD15.id, tiny_base.path)
    resolve_base(str(alone))
    assert bases.get_base(str(alone)).is_local


# On the card


def test_the_card_names_the_file_links_nothing_and_asks_for_the_licence(trained, beside, workspace):
    made = plan.plan(workspace, Request(adapter=f"run:{trained.id}", repo="ink", rights="I drew these."))
    front, body = made.card.split("\n---\n", 1)
    assert "base_model" not in front and "My Dream.safetensors" in body and "licence of the base model is unknown" in body
    assert "not known to the studio; look it up" in made.notes[0]
    sent = made.card.encode() + made.files[-1].read()
    assert str(beside.parent).encode() not in sent and b"huggingface.co/My" not in sent
    said = plan.plan(workspace, Request(adapter=f"run:{trained.id}", repo="ink", rights="mine", base_licence="my own, <b>free</b>"))
    assert said.notes == () and "as stated by the publisher: my own, &#60;b&#62;free" in said.card and "unknown" not in said.card


def test_the_code_on_the_card_draws_the_studios_picture(trained, workspace, tmp_path, monkeypatch):
    from studio.publishing.snippets import diffusers_code

    made = plan.plan(workspace, Request(adapter=f"run:{trained.id}", rights="mine"))
    save_folder(made, tmp_path / "ink")
    code = diffusers_code(made.facts, local=True).replace("path/to/this/folder", str(tmp_path / "ink"))
    assert "StableDiffusionPipeline.from_single_file(" in code
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert pixels(tmp_path / "image.png") == pixels(trained.samples()[6][0])


# Stored in several files


def test_a_folder_in_several_files_a_part_is_whole_only_with_all_of_them(tiny_base, tmp_path):  # noqa: F811
    pipeline = SD.load(tiny_base, torch.float32)
    pipeline.save_pretrained(tmp_path / "parts", max_shard_size="60KB")
    shards = sorted((tmp_path / "parts" / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    base, recipe = resolve_base(str(tmp_path / "parts")), Recipe(prompt="a cat", num_inference_steps=1)
    assert Generator(base, SD).generate(recipe, []).tobytes() == Generator(tiny_base, SD).generate(recipe, []).tobytes()
    shards[0].unlink()
    with pytest.raises(StudioError, match=f"'parts' has no unet/{shards[0].name}, one of the {len(shards)} files"):
        resolve_base(str(tmp_path / "parts"))
    index = tmp_path / "parts" / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": 3}')
    with pytest.raises(StudioError, match="no readable unet/diffusion_pytorch_model.safetensors.index.json"):
        resolve_base(str(tmp_path / "parts"))


def test_parts_in_several_files_are_fetched_with_their_index(fake_hub, tiny_base, tmp_path):  # noqa: F811
    SD.load(tiny_base, torch.float32).save_pretrained(tmp_path / "parts", max_shard_size="60KB")
    fake_hub.seed_repo("maker/parts", tmp_path / "parts")
    base = resolve_base("maker/parts")
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in fetched_names(base)
    assert SD.load(base, torch.float32, parts=("unet",)).unet is not None


def test_half_precision_alone_is_fetched_in_several_files_too(fake_hub, tiny_base, tmp_path):  # noqa: F811
    SD.load(tiny_base, torch.float16).save_pretrained(tmp_path / "half", max_shard_size="30KB", variant="fp16")
    fake_hub.seed_repo("maker/half", tmp_path / "half")
    base = resolve_base("maker/half")
    assert any(".fp16-0" in name for name in fetched_names(base))
    assert SD.load(base, torch.float32).unet.dtype == torch.float32
