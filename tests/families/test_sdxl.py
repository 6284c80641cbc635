"""What is SDXL's own beside what every family promises."""

import torch

from tests.families.members import chance, spoken


def test_a_picture_of_its_bucket_is_told_to_be_whole_as_the_pipeline_tells_it(tiny, monkeypatch):
    family, pipeline, words, told = tiny("sdxl").family, tiny("sdxl").pipeline, spoken(tiny("sdxl"), "a cat"), []
    monkeypatch.setattr(pipeline.unet, "forward", lambda x, t, added_cond_kwargs, **_: told.append(added_cond_kwargs["time_ids"]) or (x,))
    with torch.no_grad():
        family.predict(pipeline.unet, torch.zeros(1, 4, 8, 12), torch.tensor([500]), words)
        family.draw(pipeline, words, words, (96, 64), 1, 1.0, chance(0), lambda step, steps: None)
    assert told[0].tolist() == told[1].tolist() == [[64, 96, 0, 0, 64, 96]]


def test_nothing_is_zeros_where_the_base_was_taught_so(tiny):
    family, empty = tiny("sdxl").family, spoken(tiny("sdxl"), "")
    taught_so = family.load(tiny("sdxl").base, torch.float32, parts=())
    assert all(rows.abs().sum() == 0 for rows in family.unconditional(taught_so, empty).values())
    taught_so.register_to_config(force_zeros_for_empty_prompt=False)
    assert family.unconditional(taught_so, empty) is empty
