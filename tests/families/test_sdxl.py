"""What is SDXL's own beside the matrix over all families."""

import torch

from studio.families import get
from tests.families.pipelines import load_tiny

FAMILY = get("sdxl")


def test_a_picture_of_its_bucket_is_told_to_be_whole_as_the_pipeline_tells_it(tmp_path, monkeypatch):
    _, pipeline = load_tiny(FAMILY, tmp_path / "tiny")
    told = []
    monkeypatch.setattr(pipeline.unet, "forward", lambda x, t, added_cond_kwargs, **_: told.append(added_cond_kwargs["time_ids"]) or (x,))
    with torch.no_grad():
        words = FAMILY.encode_prompts(pipeline, ["a cat"])
        FAMILY.predict(pipeline.unet, torch.zeros(1, 4, 8, 12), torch.tensor([500]), words)
        FAMILY.draw(pipeline, words, words, (96, 64), 1, 1.0, torch.Generator().manual_seed(0), lambda step, steps: None)
    assert told[0].tolist() == told[1].tolist() == [[64, 96, 0, 0, 64, 96]]


def test_nothing_is_zeros_where_the_base_was_taught_so(tmp_path):
    _, pipeline = load_tiny(FAMILY, tmp_path / "tiny")
    with torch.no_grad():
        empty = FAMILY.encode_prompts(pipeline, [""])
    assert all(rows.abs().sum() == 0 for rows in FAMILY.unconditional(pipeline, empty).values())
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    assert FAMILY.unconditional(pipeline, empty) is empty
