"""What every family makes of words: conditions of one shape, whose filling says nothing, and the end of a prompt that is not read."""

from dataclasses import replace

import torch

from studio.training.encoding_cache import Encodings
from tests.families import members
from tests.families.members import noise, of_kinds, predicted, spoken

MASKED = ["qwen-image", "z-image", "krea-2", "krea-2: distilled", "chroma"]
"""Kinds whose prompts are filled up with what is not to be read."""

TEXTS = ("", "a cat", "a cat sits", "long words " * 60)

LENGTHS = {
    "stable-diffusion": 24,
    "sdxl": 24,
    "sd3": 24 + 256,
    # 256, and what the tiny tokenizer's closing is longer than the real one's five tokens.
    "krea-2": 256 - 5 + 13,
}
"""Of a prompt in tokens, where it is not 512; the tiny CLIPs read 24."""

UNBROKEN = "abcdefgh" * 80
TOO_LONG = dict.fromkeys(("stable-diffusion", "sdxl"), " ".join(UNBROKEN))
"""Where CLIP alone reads, words of one letter: the last letter of its words is another token than the same one inside."""


def test_prompts_are_of_one_length_and_of_one_kind_alone_or_together(member):
    texts = list(TEXTS)
    alone = [spoken(member, text) for text in texts]
    with torch.no_grad():
        together = member.family.encode_prompts(member.pipeline, texts)
    assert texts == list(TEXTS)
    shapes = member.family.input_shapes(member.denoiser.config, (members.HEIGHT, members.WIDTH))
    assert all(conditions.keys() == shapes.keys() - {"latents"} for conditions in (*alone, together))
    for name, rows in together.items():
        of_tokens = name == "prompt_embeds" or name.endswith("_mask")
        shape = (LENGTHS.get(member.family.name, 512), *shapes[name][1:]) if of_tokens else shapes[name]
        assert rows.shape == (len(texts), *shape) and all(conditions[name].shape == (1, *shape) for conditions in alone)
        torch.testing.assert_close(rows, torch.cat([conditions[name] for conditions in alone]), atol=1e-5, rtol=1e-5)
        if name.endswith("_mask"):
            _, short, longer, cut = rows.sum(1).tolist()
            assert rows.dtype == torch.bool and longer == short + len(" sits") and cut == shape[0]


@of_kinds(MASKED)
def test_words_behind_the_mask_are_not_seen(member):
    conditions, latents, t = spoken(member, "a cat"), noise((1, *member.latent_shape)), torch.tensor([500.0])
    (mask,) = (rows[0] for name, rows in conditions.items() if name.endswith("_mask"))
    plain = predicted(member, latents, t, conditions)
    for places, heard in ((mask, True), (~mask, False)):
        for place in places.nonzero()[[0, -1], 0]:
            words = conditions["prompt_embeds"].clone()
            words[:, place] += 5.0
            assert torch.equal(predicted(member, latents, t, conditions | {"prompt_embeds": words}), plain) is not heard


def test_conditions_are_kept_on_the_disk_as_they_are(member, tmp_path):
    base = replace(member.base, revision="0" * 40)
    cache, said = Encodings(tmp_path / "cache", base, member.family, torch.device("cpu"), torch.float32), spoken(member, "a cat")
    for kept in (cache.conditions("a cat"), cache.conditions("a cat")):
        assert kept.keys() == said.keys()
        assert all(kept[name].dtype == rows.dtype and torch.equal(kept[name], rows) for name, rows in said.items())


def test_what_is_cut_off_a_prompt_is_what_changes_nothing(member):
    prompt = TOO_LONG.get(member.family.name, UNBROKEN)
    cut = member.family.truncated_text(member.pipeline, prompt)
    read = prompt.removesuffix(cut)
    assert cut and read != prompt
    assert member.family.truncated_text(member.pipeline, read) == "" and member.family.truncated_text(member.pipeline, "a cat") == ""
    whole, kept, less = (spoken(member, text) for text in (prompt, read, read.rstrip()[:-1]))
    assert all(torch.equal(whole[name], kept[name]) for name in whole)
    assert not torch.equal(whole["prompt_embeds"], less["prompt_embeds"])
