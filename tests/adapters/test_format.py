import contextlib
import importlib
import json
import pickle
import random
import struct
import subprocess
import sys
import time

import pytest
import torch
from diffusers.utils import convert_state_dict_to_kohya
from safetensors import safe_open
from safetensors.torch import save_file

from studio import builtin
from studio.adapters import info
from studio.adapters.format import _StatedAlphas, adapter_metadata, check_base_compatibility, fingerprint, load_adapter, read_header, serialise
from studio.core.errors import StudioError
from studio.families import BUILTIN_ID, FAMILIES, resolve_base
from tests.tiny import FAMILY, lora_tensors, save_lora, tiny_base, tiny_pipeline  # noqa: F401 - fixtures

PAIR = {"unet.a.attn2.to_k.lora_A.weight": torch.ones(4, 768), "unet.a.attn2.to_k.lora_B.weight": torch.ones(320, 4)}


def saved(path, tensors, metadata=None):
    save_file(tensors, path, metadata)
    return path


def test_the_same_content_is_always_the_same_bytes():
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.float16)}
    data = serialise(tensors, {"z": "1", "format": "pt"})
    assert data == serialise(dict(reversed(tensors.items())), {"format": "pt", "z": "1"})
    length = struct.unpack("<Q", data[:8])[0]
    assert length % 8 == 0
    assert list(json.loads(data[8 : 8 + length])) == ["__metadata__", "a", "b"]


def test_safetensors_reads_what_we_write(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(serialise(PAIR, {"format": "pt", "ü": "<é>"}))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "ü": "<é>"}
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in PAIR.items())


SHARED_KEYS = {"r", "peft_type", "target_modules", "rank_pattern", "alpha_pattern"}
LORA_KEYS = SHARED_KEYS | {"lora_alpha", "lora_dropout", "bias"}
STATED_KEYS = {"lora": LORA_KEYS, "dora": LORA_KEYS | {"use_dora"}, "lokr": SHARED_KEYS | {"alpha"}}
"""What a part's config states: diffusers 0.34 to 0.39 look both patterns up, and an older PEFT refuses a key that it does not know."""


@pytest.mark.parametrize("method", STATED_KEYS)
def test_a_header_states_what_every_reader_needs_of_each_part_and_nothing_else(method):
    parts = {"unet": ["to_q"], "text_encoder": ["q_proj"]}
    stated = json.loads(adapter_metadata(parts, 4, {}, {"title": "tiny"}, method)["lora_adapter_metadata"])
    assert stated.keys() == {f"{part}.{key}" for part in parts for key in STATED_KEYS[method]}
    assert all(stated[f"{part}.{key}"] == {} for part in parts for key in ("rank_pattern", "alpha_pattern"))


@pytest.mark.parametrize("path", sorted(builtin.LORAS_DIR.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_starter_has_the_header_that_is_written_today(path):
    header = read_header(path)
    stated = json.loads(header.metadata["lora_adapter_metadata"])
    wanted = adapter_metadata({"unet": list(FAMILY.target_modules)}, stated["unet.r"], {}, {})["lora_adapter_metadata"]
    assert header.metadata["lora_adapter_metadata"] == wanted
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in header.tensors}
    assert path.read_bytes() == serialise(tensors, header.metadata)


def test_reading_a_header_does_not_load_torch(tmp_path):
    path = saved(tmp_path / "a.safetensors", PAIR)
    code = (
        "import sys; from pathlib import Path; from studio.adapters.format import *; from studio.families import FAMILIES;"
        f"print(fingerprint(read_header(Path({str(path)!r}))).title); assert 'torch' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "Stable Diffusion"


def header_bytes(header: str | bytes, data: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + data


ONE = '{"a.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}'
BROKEN = {
    "empty": b"",
    "seven bytes": b"1234567",
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x02}q\x00." + bytes(100),
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n",
    "html": b"<!doctype html><html>" + bytes(100),
    "huge header": struct.pack("<Q", 2**40) + bytes(100),
    "header beyond the end": header_bytes("{}")[:-1],
    "no json": header_bytes("{nonsense}"),
    "json of another kind": header_bytes("[1, 2]"),
    "deep json": header_bytes("[" * 100_000),
    "not utf-8": header_bytes(b"{\xff}"),
    "cut off": header_bytes(ONE + "}", bytes(3)),
    "too long": header_bytes(ONE + "}", bytes(5)),
    "duplicate": header_bytes(ONE + "," + ONE[1:] + "}", bytes(4)),
    "overlap": header_bytes(ONE + ',"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "hole": header_bytes(ONE + ',"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}', bytes(12)),
    "nothing in it": header_bytes('{"a":{"dtype":"F32","shape":[1099511627776,0],"data_offsets":[0,0]}}'),
    "negative": header_bytes('{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}', bytes(4)),
    "wrong size": header_bytes('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', bytes(4)),
    "unknown dtype": header_bytes('{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "no dtype": header_bytes('{"a":{"shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "path as name": header_bytes('{"../../etc/passwd":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "metadata of numbers": header_bytes('{"__metadata__":{"a":1}}'),
    "no tensors": header_bytes("{}"),
    "float as shape": header_bytes('{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', bytes(4)),
    "letters as offsets": header_bytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":["a",1]}}', bytes(4)),
    "letters and numbers": header_bytes(ONE + ',"b":{"dtype":"F32","shape":[1],"data_offsets":["a",8]}}', bytes(8)),
    "three offsets": header_bytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2,4]}}', bytes(4)),
    "list as dtype": header_bytes('{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "many": header_bytes(json.dumps({f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(20_001)}), bytes(20_001)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_with_a_sentence(kind, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(StudioError, match="[.]$"):
        fingerprint(read_header(path))


NINES = "9" * 4000
GREEDY = {
    "1,900 dimensions of 4,000 digits": header_bytes(
        '{"a":{"dtype":"F32","shape":[' + ",".join([NINES] * 1900) + '],"data_offsets":[0,4]}}', bytes(4)
    ),
    "a dimension of a million digits": header_bytes('{"a":{"dtype":"F32","shape":[' + "9" * 10**6 + '],"data_offsets":[0,4]}}', bytes(4)),
    "a dimension of 21 digits": header_bytes('{"a":{"dtype":"F32","shape":[' + "9" * 21 + '],"data_offsets":[0,4]}}', bytes(4)),
    "offsets of 4,000 digits": header_bytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + NINES + "]}}", bytes(4)),
    "100,000 dimensions": header_bytes('{"a":{"dtype":"F32","shape":[1' + ",1" * 99_999 + '],"data_offsets":[0,4]}}', bytes(4)),
    "nine dimensions": header_bytes('{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}', bytes(4)),
    "33 levels": header_bytes("[" * 33 + "]" * 33),
    "a million levels": header_bytes('{"a":' * 10**6 + "1" + "}" * 10**6),
    "brackets": header_bytes("[" + "[]," * 2_700_000 + "[]]"),
    "empty texts": header_bytes("[" + '"",' * 2_700_000 + '""]'),
    "a text without an end": header_bytes('"' + '\\"' * 4_000_000),
    "a text of brackets": header_bytes('{"__metadata__":{"a":"' + '[{\\"' * 1_900_000 + '"}}'),
}
SECONDS = 10
"""For one header, on a busy computer; an honest one takes milliseconds."""


@pytest.mark.parametrize("kind", GREEDY)
@pytest.mark.timeout(60)
def test_a_header_made_to_keep_the_processor_busy_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "greedy.safetensors"
    path.write_bytes(GREEDY[kind])
    began = time.monotonic()
    with pytest.raises(StudioError, match="[.]$"):
        fingerprint(read_header(path))
    assert time.monotonic() - began < SECONDS


def test_500_mutations_of_a_header_are_read_or_refused_and_nothing_else(tmp_path):
    rng = random.Random(3)
    raw = serialise(PAIR, adapter_metadata({"unet": ["to_k"]}, 4, {"trigger_word": "ohwx"}, {"title": "tiny"}))
    length = 8 + struct.unpack("<Q", raw[:8])[0]
    bits = (b"0", b"9" * 30, b'"', b"}", b"[", b"null", b"-1", b",", b'{"a":1}', b"1e999", b"[" * 40)
    for index in range(500):
        mutated, at = bytearray(raw[:length]), rng.randrange(8, length)
        match index % 4:
            case 0:
                mutated[at] = rng.randrange(256)
            case 1:
                del mutated[at : at + rng.randrange(1, 60)]
            case 2:
                del mutated[rng.randrange(length) :]
            case 3:
                mutated[at:at] = rng.choice(bits)
        path = tmp_path / "mutated.safetensors"
        path.write_bytes(bytes(mutated) + (b"" if index % 4 == 2 else raw[length:]))
        began = time.monotonic()
        with contextlib.suppress(StudioError):
            fingerprint(read_header(path))
        assert time.monotonic() - began < SECONDS, bytes(mutated)


KINDS_BY_THEIR_START = {
    "zip": "is a zip",
    "pickle": "is a pickle",
    "pickle of protocol 4": "is a pickle",
    "git-lfs pointer": "git-lfs pointer",
    "html": "not a complete .safetensors file",
}


@pytest.mark.parametrize("kind", KINDS_BY_THEIR_START)
def test_a_file_of_another_kind_is_called_what_it_is(kind, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BROKEN.get(kind, pickle.dumps({"a": list(range(100))}, 4)))
    with pytest.raises(StudioError, match=KINDS_BY_THEIR_START[kind]):
        read_header(path)


@pytest.mark.parametrize("length", [640, 1152, 19280, 65536 + 640, 65536 + 19280])
def test_a_header_whose_length_begins_like_a_pickle_or_a_zip_is_read(length, tmp_path):
    """The first bytes of a safetensors file are a number: these lengths begin with the marks of pickle protocols 2 and 4, and of zip."""
    data = header_bytes((ONE + "}").ljust(length), bytes(4))
    assert data[:2] in (b"\x80\x02", b"\x80\x04", b"PK")
    (tmp_path / "a.safetensors").write_bytes(data)
    assert read_header(tmp_path / "a.safetensors").tensors == {"a.lora_A.weight": ("F32", (1, 1))}


REFUSED = {
    "one half": ({"unet.a.to_q.lora_A.weight": torch.ones(4, 8)}, "no counterpart"),
    "other half": ({"unet.a.to_q.lora_B.weight": torch.ones(4, 8)}, "no LoRA layers"),
    "one axis": ({"unet.a.to_q.lora_A.weight": torch.ones(4), "unet.a.to_q.lora_B.weight": torch.ones(4)}, "do not match"),
    "two ranks": ({"unet.a.to_q.lora_A.weight": torch.ones(4, 8), "unet.a.to_q.lora_B.weight": torch.ones(8, 2)}, "do not match"),
    "rank 600": ({"unet.a.to_q.lora_A.weight": torch.ones(600, 8), "unet.a.to_q.lora_B.weight": torch.ones(8, 600)}, "rank 600"),
    "int8": ({"unet.a.to_q.lora_A.weight": torch.ones(4, 8, dtype=torch.int8), "unet.a.to_q.lora_B.weight": torch.ones(8, 4)}, "stored as I8"),
    "DoRA of another size": ({**PAIR, "unet.a.attn2.to_k.lora_magnitude_vector": torch.ones(7)}, "magnitude of shape \\[7\\]"),
    "DoRA elsewhere": ({**PAIR, "unet.a.attn2.to_k.dora_scale": torch.ones(320)}, "DoRA in another program's layout"),
    "half a LoKr": ({"lora_unet_a.lokr_w1": torch.ones(4, 4), "lora_unet_a.lokr_w2_a": torch.ones(4, 4)}, "factor w2"),
    "LoKr twice": (
        {"a.lokr_w1": torch.ones(4, 4), "a.lokr_w1_a": torch.ones(4, 2), "a.lokr_w1_b": torch.ones(2, 4), "a.lokr_w2": torch.ones(4, 4)},
        "w1",
    ),
    "LoKr with one axis": ({"a.lokr_w1_a": torch.ones(4), "a.lokr_w1_b": torch.ones(4, 4), "a.lokr_w2": torch.ones(4, 4)}, "factor w1"),
    "LoKr of convolutions": ({"a.lokr_w1": torch.ones(4, 4), "a.lokr_w2": torch.ones(4, 4, 3, 3)}, "convolutions"),
    "whole model": ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(4, 4)}, "no LoRA layers"),
    "stranger": ({"audio.blocks.0.lora_A.weight": torch.ones(4, 8), "audio.blocks.0.lora_B.weight": torch.ones(8, 4)}, "an unknown model family"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_no_plain_lora_is_refused_by_name(kind, tmp_path):
    tensors, words = REFUSED[kind]
    with pytest.raises(StudioError, match=words):
        fingerprint(read_header(saved(tmp_path / "a.safetensors", tensors)))


def layer(name, inside, outside, kohya=False):
    down, up = ("lora_down", "lora_up") if kohya else ("lora_A", "lora_B")
    return {f"{name}.{down}.weight": torch.zeros(4, inside), f"{name}.{up}.weight": torch.zeros(outside, 4)}


BLOCK = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
FAMILIES_OF_FILES = {
    "SD 1.5": (layer(f"unet.{DOTTED}", 768, 320), "stable-diffusion", 768),
    "SD 1.5 kohya": (layer(f"lora_unet_{BLOCK}", 768, 320, True), "stable-diffusion", 768),
    "SD 1.5 text only": (layer("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, 768, True), "stable-diffusion", None),
    "SD 2.1": (layer(f"unet.{DOTTED}", 1024, 320), "stable-diffusion", 1024),
    "small": (layer(f"unet.{DOTTED}", 192, 64), "stable-diffusion", 192),
    "SDXL": (layer(f"unet.{DOTTED}", 2048, 640), "sdxl", 2048),
    "SDXL kohya": (layer("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", 640, 640, True), "sdxl", 2048),
    "SDXL second text encoder": (layer("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280, 5120, True), "sdxl", 2048),
    "SD3": (layer("transformer.transformer_blocks.0.attn.to_q", 1536, 1536), "sd3", 1536),
    "SD3.5 medium": (layer("transformer.transformer_blocks.0.attn2.to_q", 1536, 1536), "sd3", 1536),
    "SD3.5 large": (layer("transformer.transformer_blocks.0.attn.add_q_proj", 2432, 2432), "sd3", 2432),
    "SD3.5 large feed-forward": (layer("transformer.transformer_blocks.0.ff_context.net.0.proj", 2432, 9728), "sd3", 2432),
    "SD3.5 kohya": (layer("lora_unet_joint_blocks_0_x_block_attn_qkv", 2432, 7296, True), "sd3", 2432),
    "SD3.5 ComfyUI": (layer("diffusion_model.joint_blocks.0.context_block.mlp.fc1", 1536, 6144), "sd3", 1536),
    "SD3.5 with its text encoders": (
        layer("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj", 1280, 1280)
        | layer("transformer.transformer_blocks.0.attn.to_q", 1536, 1536),
        "sd3",
        1536,
    ),
    "SD3.5 tiny": (layer("transformer.transformer_blocks.0.ff.net.0.proj", 16, 64), "sd3", 16),
    "FLUX.1": (layer("transformer.single_transformer_blocks.0.attn.to_q", 3072, 3072), "flux", None),
    "FLUX.1 kohya": (layer("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216, True), "flux", None),
    "FLUX.1 kohya single": (layer("lora_unet_single_blocks_0_linear1", 3072, 21504, True), "flux", None),
    "FLUX.1 double blocks": (layer("transformer.transformer_blocks.0.ff.net.0.proj", 3072, 12288), "flux", None),
    "FLUX.2 double blocks": (layer("transformer.transformer_blocks.0.ff.linear_in", 6144, 36864), "flux2", 6144),
    "FLUX.1 attention": (layer("diffusion_model.double_blocks.0.img_attn.qkv", 3072, 9216), "flux", None),
    "FLUX.1 original feed-forward": (layer("diffusion_model.double_blocks.0.img_mlp.0", 3072, 12288), "flux", None),
    "FLUX.1 with CLIP": (
        layer("lora_unet_single_blocks_0_linear2", 15360, 3072, True) | layer("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, 3072, True),
        "flux",
        None,
    ),
    "FLUX.2": (layer("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 6144, 55296), "flux2", 6144),
    "FLUX.2 klein 9B single out": (layer("transformer.single_transformer_blocks.0.attn.to_out", 16384, 4096), "flux2", 4096),
    "FLUX.2 klein 4B feed-forward": (layer("transformer.transformer_blocks.0.ff_context.linear_out", 9216, 3072), "flux2", 3072),
    "FLUX.2 attention alone": (layer("transformer.transformer_blocks.0.attn.to_q", 4096, 4096), "flux2", 4096),
    "FLUX.2 original": (layer("diffusion_model.single_blocks.0.linear1", 3072, 27648), "flux2", 3072),
    "FLUX.2 original single out": (layer("diffusion_model.single_blocks.0.linear2", 12288, 3072), "flux2", 3072),
    "FLUX.2 original feed-forward": (layer("base_model.model.double_blocks.0.txt_mlp.2", 12288, 4096), "flux2", 4096),
    "FLUX.2 original attention": (layer("diffusion_model.double_blocks.0.img_attn.qkv", 6144, 18432), "flux2", 6144),
    "FLUX.2 kohya": (layer("lora_unet_double_blocks_0_img_mlp_0", 3072, 18432, True), "flux2", 3072),
    "FLUX.2 tiny": (layer("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 32, 288), "flux2", 32),
    "Chroma": (layer("transformer.distilled_guidance_layer.layers.0.linear_1", 5120, 5120), "chroma", None),
    "Chroma kohya": (
        layer("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216, True)
        | layer("lora_unet_distilled_guidance_layer_layers_0_in_layer", 5120, 5120, True),
        "chroma",
        None,
    ),
    "Qwen-Image": (layer("transformer.transformer_blocks.0.img_mlp.net.0.proj", 3072, 12288), "qwen-image", None),
    "Qwen-Image attention": (layer("transformer.transformer_blocks.0.attn.to_q", 3072, 3072), "qwen-image", None),
    "Qwen-Image kohya": (layer("lora_unet_transformer_blocks_0_attn_to_q", 3072, 3072, True), "qwen-image", None),
    "Qwen-Image ComfyUI": (layer("diffusion_model.transformer_blocks.0.txt_mlp.net.2", 12288, 3072), "qwen-image", None),
    "Qwen-Image without a prefix": (layer("transformer_blocks.0.img_mod.1", 3072, 18432, True), "qwen-image", None),
    "Qwen-Image tiny": (layer("transformer.transformer_blocks.0.txt_mlp.net.0.proj", 32, 128), "qwen-image", None),
    "Qwen-Image 2.1": (layer("transformer.transformer_blocks.0.img_mlp.gate_layer", 4096, 12288), "qwen-image-2.1", None),
    "Krea 2": (layer("transformer.transformer_blocks.0.attn.to_gate", 6144, 6144), "krea-2", None),
    "Krea 2 attention": (
        layer("transformer.transformer_blocks.0.attn.to_q", 6144, 6144) | layer("transformer.transformer_blocks.0.attn.to_k", 6144, 1536),
        "krea-2",
        None,
    ),
    "Krea 2 ComfyUI": (layer("diffusion_model.blocks.0.attn.wq", 6144, 6144), "krea-2", None),
    "Krea 2 from PEFT": (layer("base_model.model.blocks.0.mlp.down", 16384, 6144), "krea-2", None),
    "Krea 2 kohya": (layer("lora_unet_blocks_0_mlp_gate", 6144, 16384, True), "krea-2", None),
    "Krea 2 tiny": (layer("transformer.transformer_blocks.0.ff.up", 32, 32), "krea-2", None),
    "Z-Image": (layer("transformer.layers.0.attention.to_q", 3840, 3840), "z-image", None),
    "Z-Image kohya": (layer("lora_unet_layers_0_attention_to_q", 3840, 3840, True), "z-image", None),
    "Z-Image original": (layer("diffusion_model.layers.0.feed_forward.w1", 3840, 10240), "z-image", None),
    "Z-Image kohya out": (layer("lora_unet_layers_0_attention_to_out_0", 3840, 3840, True), "z-image", None),
    "Z-Image refiner": (layer("lora_unet_context_refiner_1_feed_forward_w2", 10240, 3840, True), "z-image", None),
    "Z-Image tiny": (layer("transformer.layers.0.attention.to_q", 48, 48), "z-image", None),
    "Lumina 2": (layer("diffusion_model.layers.0.attention.qkv", 2304, 3840), "lumina2", None),
}


@pytest.mark.parametrize("kind", FAMILIES_OF_FILES)
def test_keys_and_shapes_tell_the_family(kind, tmp_path):
    tensors, family, width = FAMILIES_OF_FILES[kind]
    found = fingerprint(read_header(saved(tmp_path / "a.safetensors", tensors)))
    assert (found.family, found.width, found.rank) == (family, width, 4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_a_family_learns_by_default_is_known_as_its_own_at_any_size(family):
    pipeline = importlib.import_module(f"studio.benchmark.models.{family.name.replace('-', '_')}").tiny()
    tensors = lora_tensors(pipeline, targets=tuple(f".{end}" for end in family.target_modules), part=family.denoiser_name)
    # FLUX.1 and Chroma have these layers in common; a studio's file says whose it is.
    stated = {"modelspec.architecture": "chroma/lora"} if family.name == "chroma" else {}
    found = info.fingerprint({name: tuple(tensor.shape) for name, tensor in tensors.items()}, stated)
    assert (found.family, found.layers) == (family.name, len(tensors) // 2)


FLUX_ATTENTION = layer("transformer.single_transformer_blocks.0.attn.to_q", 3072, 3072)
FIRST_BLOCKS = layer("transformer.transformer_blocks.0.attn.to_q", 3072, 3072)
STATED_ARCHITECTURES = {
    "what fits both": (FLUX_ATTENTION, "chroma/lora", "chroma"),
    "the same, unstated": (FLUX_ATTENTION, "", "flux"),
    "an architecture that the keys contradict": (FLUX_ATTENTION, "Flux.2-dev/lora", "flux"),
    "an architecture of another world": (FLUX_ATTENTION, "stable-diffusion-xl-v1-base/lora", "flux"),
    "a modulation that Chroma has not": (
        FLUX_ATTENTION | layer("transformer.single_transformer_blocks.0.norm.linear", 3072, 9216),
        "chroma/lora",
        "flux",
    ),
    "Chroma's own network in a file that says FLUX.1": (FAMILIES_OF_FILES["Chroma"][0], "flux-1-dev/lora", "chroma"),
    "four families' first blocks": (FIRST_BLOCKS, "Flux.2-klein-4b/lora", "flux2"),
    "the same as FLUX.1": (FIRST_BLOCKS, "flux-1-dev/lora", "flux"),
    "the same as Qwen-Image": (FIRST_BLOCKS, "Qwen-Image/lora", "qwen-image"),
    "a Stable Diffusion that says something else": (FAMILIES_OF_FILES["SD 1.5"][0], "chroma/lora", "stable-diffusion"),
}


@pytest.mark.parametrize("kind", STATED_ARCHITECTURES)
def test_the_stated_architecture_decides_only_between_families_that_the_keys_fit(kind, tmp_path):
    tensors, stated, family = STATED_ARCHITECTURES[kind]
    found = fingerprint(read_header(saved(tmp_path / "a.safetensors", tensors, {"modelspec.architecture": stated})))
    assert found.family == family


def test_a_wrong_base_is_refused_with_both_names(tmp_path, tiny_base):  # noqa: F811
    sdxl = saved(tmp_path / "xl.safetensors", FAMILIES_OF_FILES["SDXL"][0])
    with pytest.raises(StudioError, match="made for SDXL; the chosen base is Stable Diffusion"):
        load_adapter(sdxl, FAMILY)
    sd15 = fingerprint(read_header(saved(tmp_path / "sd.safetensors", FAMILIES_OF_FILES["SD 1.5"][0])))
    with pytest.raises(StudioError, match="the chosen base is a Stable Diffusion model with prompt embeddings of width 32"):
        check_base_compatibility("sd", sd15, FAMILY, tiny_base)
    with pytest.raises(StudioError, match="made for Stable Diffusion 1.5; the chosen base is LoRA Studio's small world[.]"):
        check_base_compatibility("sd", sd15, FAMILY, resolve_base(BUILTIN_ID))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in PAIR.items()}
    tensors["unet.a.attn2.to_k.lora_B.weight"][3, 2] = bad
    with pytest.raises(StudioError, match="not finite"):
        load_adapter(saved(tmp_path / "a.safetensors", tensors), FAMILY)


def test_a_layer_that_goes_by_two_names_is_refused(tmp_path):
    names = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj", "text_encoder.encoder.layers.0.self_attn.q_proj"
    for name in names:
        assert list(load_adapter(saved(tmp_path / "a.safetensors", layer(name, 8, 8)), FAMILY).layers) == [names[0]]
    with pytest.raises(StudioError, match=f"has the layer {names[1]} twice"):
        load_adapter(saved(tmp_path / "a.safetensors", layer(names[0], 8, 8) | layer(names[1], 8, 8)), FAMILY)


def test_foreign_keys_come_in_through_diffusers_with_their_alpha_folded(tmp_path, tiny_pipeline):  # noqa: F811
    ours = lora_tensors(tiny_pipeline)
    text = lora_tensors(tiny_pipeline, targets=("q_proj", "fc1"), part="text_encoder")
    kohya = convert_state_dict_to_kohya({**ours, **{name.replace("text_encoder.", "text_encoder.text_model.", 1): t for name, t in text.items()}})
    kohya = {name: torch.tensor(2.0) if name.endswith(".alpha") else tensor.contiguous() for name, tensor in kohya.items()}
    adapter = load_adapter(saved(tmp_path / "k.safetensors", kohya), FAMILY)
    assert len(adapter.layers) == (len(ours) + len(text)) // 2
    for name in ours:
        if name.endswith(".lora_A.weight"):
            layer_name = name.removesuffix(".lora_A.weight")
            assert torch.equal(adapter.layers[layer_name].A, ours[name])
            assert torch.equal(adapter.layers[layer_name].B, ours[f"{layer_name}.lora_B.weight"] * 0.5)
    assert any(name.startswith("text_encoder.") for name in adapter.layers)


def test_an_alpha_in_diffusers_metadata_is_applied_layer_by_layer(tmp_path, tiny_pipeline):  # noqa: F811
    tensors = lora_tensors(tiny_pipeline)
    stated = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 2}}
    adapter = load_adapter(saved(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(stated)}), FAMILY)
    for name, low_rank in adapter.layers.items():
        scale = 0.5 if "mid_block.attentions.0.transformer_blocks.0.attn1.to_q" in name else 2.0
        assert torch.equal(low_rank.B, tensors[f"{name}.lora_B.weight"] * scale)


TOO_LARGE = {
    "an alpha": (torch.float32, 1.0, {"unet.r": 4, "unet.lora_alpha": 1e308}),
    "stored numbers": (torch.float64, 1e300, {"unet.r": 4, "unet.lora_alpha": 4}),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_lora_whose_numbers_overflow_once_scaled_is_refused_by_its_layer(kind, tmp_path, tiny_pipeline):  # noqa: F811
    dtype, size, stated = TOO_LARGE[kind]
    tensors = {name: tensor.to(dtype) * size for name, tensor in lora_tensors(tiny_pipeline).items()}
    path = saved(tmp_path / "loud.safetensors", tensors, {"lora_adapter_metadata": json.dumps(stated)})
    with pytest.raises(StudioError, match=r"loud.*layer unet\.down_blocks.*overflow.*Use another version"):
        load_adapter(path, FAMILY)


@pytest.mark.parametrize("pattern", ["to_q", "attn1.to_q", "^mid_block.attentions.0.transformer_blocks.0.attn1.to_q"])
def test_an_alpha_pattern_names_a_module_or_its_end(pattern):
    stated = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.alpha_pattern": {"q": 1, pattern: 2}})}
    layer_name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    assert _StatedAlphas(stated).scale(layer_name, 4) == 0.5
    assert _StatedAlphas(stated).scale(layer_name + "_too", 4) == 2.0


def test_the_first_alpha_pattern_that_fits_a_layer_counts():
    stated = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 1, "^a.attn1.to_q": 2, "to_q": 3}})}
    assert _StatedAlphas(stated).scale("unet.a.attn1.to_q", 1) == 1 and _StatedAlphas(stated).scale("unet.a.attn2.to_q", 1) == 3


def test_a_pattern_for_each_of_10_000_layers_is_looked_up_quickly():
    patterns = {f"layer{index}.attn.to_q": 2 for index in range(10_000)}
    alphas = _StatedAlphas({"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.alpha_pattern": patterns})})
    began = time.monotonic()
    assert {alphas.scale(f"unet.blocks.{name}", 1) for name in patterns} == {2}
    assert time.monotonic() - began < SECONDS


STATED = {
    "a trap": ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"(_*)*(_*)*(_*)*x": 2}}, "cannot be read"),
    "a list of patterns": ({"unet.lora_alpha": 8, "unet.alpha_pattern": ["to_q"]}, "cannot be read"),
    "no number": ({"unet.lora_alpha": "8"}, "alpha '8'"),
    "no number in a pattern": ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": [2]}}, "alpha '.2.'"),
    "not finite": ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"to_q": float("nan")}}, "alpha 'nan'"),
}


@pytest.mark.parametrize("kind", STATED)
def test_an_alpha_that_cannot_be_applied_is_refused_at_once(kind):
    stated, words = STATED[kind]
    with pytest.raises(StudioError, match=words):
        _StatedAlphas({"lora_adapter_metadata": json.dumps(stated)}).scale("unet.down_blocks_________________________________________.to_q", 4)


@pytest.mark.parametrize("stated", ["[" * 50_000, '{"unet.lora_alpha": NaN}', f'{{"unet.lora_alpha": {10**400}}}'], ids=["deep", "no number", "huge"])
def test_a_header_with_an_alpha_nobody_can_read_is_refused(stated, tmp_path):
    with pytest.raises(StudioError, match="alpha that cannot be read"):
        fingerprint(read_header(saved(tmp_path / "a.safetensors", PAIR, {"lora_adapter_metadata": stated})))


def test_half_precision_is_read_exactly(tmp_path, tiny_pipeline):  # noqa: F811
    tensors = {name: tensor.half() for name, tensor in lora_tensors(tiny_pipeline).items()}
    adapter = load_adapter(save_lora(tmp_path / "a.safetensors", tensors), FAMILY)
    assert all(torch.equal(low_rank.A, tensors[f"{name}.lora_A.weight"].float()) for name, low_rank in adapter.layers.items())
