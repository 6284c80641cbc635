"""Padding of prompts that the denoiser may not see: removed once encoded, and added again only where the prompts of a batch differ in length."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.families.base import Conditions


def without_padding(conditions: "Conditions", padding_mask: str) -> "Conditions":
    """Conditions of one prompt without its padding, which may be in the middle, and without the mask."""
    seen_T = conditions[padding_mask][0].bool()
    others = {name: rows for name, rows in conditions.items() if name != padding_mask}
    return others | {"prompt_embeds": conditions["prompt_embeds"][:, seen_T]}


def pad_together(prompts: "list[Conditions]", padding_mask: str, tokens: int) -> "Conditions":
    """Prompts without padding as one batch of `tokens` tokens; with the mask only if one of them is padded.

    Decided by shapes, which the host knows: a look at the mask would wait for the device.
    """
    import torch

    counts = [prompt["prompt_embeds"].shape[1] for prompt in prompts]
    together = {name: torch.cat([prompt[name] for prompt in prompts]) for name in prompts[0] if name != "prompt_embeds"}
    if all(count == tokens for count in counts):
        return together | {"prompt_embeds": torch.cat([prompt["prompt_embeds"] for prompt in prompts])}
    first = prompts[0]["prompt_embeds"]
    embeddings = first.new_zeros(len(prompts), tokens, *first.shape[2:])
    seen_BT = first.new_zeros(len(prompts), tokens, dtype=torch.bool)
    for row, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        embeddings[row, :count] = prompt["prompt_embeds"][0]
        seen_BT[row, :count] = True
    return together | {"prompt_embeds": embeddings, padding_mask: seen_BT}
