"""Encoders that do not fit the GPU. Its memory is played by a number, so everything ends up on the CPU of this computer."""

import pytest
import torch
from PIL import Image

from studio import families
from studio.benchmark.models import save_tiny
from studio.devices import memory
from studio.training.encoding_cache import Encodings, _weight_bytes

GPU = torch.device("cuda")


@pytest.fixture
def flux(tmp_path):
    family = families.get("flux")
    return family, families.resolve_base(str(save_tiny(family, tmp_path / "m")))


def test_text_encoders_that_do_not_fit_together_are_all_on_the_cpu(flux, tmp_path, monkeypatch):
    family, base = flux
    alone = family.load(base, torch.float32, parts=family.text_encoder_names)
    first, second = (_weight_bytes(alone.components[part]) for part in family.text_encoder_names)
    monkeypatch.setattr(memory, "unused_bytes", lambda device: max(first, second) + 1)
    encodings = Encodings(tmp_path / "cache", base, family, GPU, torch.float32)
    assert encodings.conditions("a cat")["prompt_embeds"].shape[0] == 1
    assert [note for note in encodings.notes if "text encoder needs" in note and note.endswith("so prompts were encoded on the CPU.")]


def test_an_image_whose_encoding_does_not_fit_is_encoded_on_the_cpu(flux, tmp_path, monkeypatch):
    family, base = flux
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 64), "red").save(path)
    monkeypatch.setattr(memory, "unused_bytes", lambda device: 2 * _weight_bytes(family.load(base, torch.float32, parts=("vae",)).vae))
    encodings = Encodings(tmp_path / "cache", base, family, GPU, torch.bfloat16)
    mean, std = encodings.latents(path, "sha", (64, 64), mirror=False)
    assert mean.dtype == std.dtype == torch.float32 and encodings.pipeline.vae.dtype == torch.float32
    assert "The autoencoder needs" in encodings.notes[0] and encodings.notes[0].endswith("so images were encoded on the CPU.")
