"""What is Chroma's own beside what every family promises."""

import shutil

import pytest
import torch

from studio.core.errors import StudioError
from studio.families import resolve_base
from tests.families.members import spoken


def test_one_word_of_padding_is_seen_as_the_model_was_trained(tiny):
    chroma = tiny("chroma")
    mask = spoken(chroma, "a cat")["prompt_attention_mask"]
    assert mask.dtype == torch.bool and mask.sum() == len(chroma.pipeline.tokenizer("a cat").input_ids) + 1


def test_a_tokenizer_in_the_older_format_asks_for_its_packages(tiny, tmp_path, monkeypatch):
    family = tiny("chroma").family
    base = resolve_base(str(shutil.copytree(tiny("chroma").base.path, tmp_path / "older")))
    (base.path / "tokenizer" / "spiece.model").write_bytes(b"")
    family.load(base, torch.float32)
    (base.path / "tokenizer" / "tokenizer.json").unlink()
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: False)
    with pytest.raises(StudioError, match="pip install sentencepiece protobuf"):
        family.load(base, torch.float32)
