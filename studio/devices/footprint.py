"""Memory footprint of one training, as plain numbers: parameters, activations, and the bytes they come to. No torch."""

from dataclasses import dataclass

FILE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTISED_BYTES = {"int8": 1.1, "fp8": 1.05, "nf4": 0.6}
"""Bytes a number of the denoiser takes when packed, with the scales of each block of numbers (Dettmers et al. 2023, section 3)."""
TRAINABLE_BYTES = 4 + 4 + 4 + 4
"""For each number that learns, in 32 bits: the master, its gradient and AdamW's two moments. Its working copy comes on top."""
FIXED_BYTES = 900_000_000
"""The card's own context or the program itself, the libraries' workspaces, and an autoencoder that waits to draw."""


@dataclass(frozen=True)
class Footprint:
    """Of one training. Activations are for one picture in 16 bits, kept whole and with blocks computed twice."""

    base_parameters: int
    adapter_parameters: int
    activation_bytes: int
    checkpointed_bytes: int
    blocks: int
    resident_parameters: int
    """Of the base, on the card when its blocks wait in main memory: what is in no block, one that computes, and the one that comes next."""

    def adapter_bytes(self, dtype: str) -> int:
        """Of the file, without its header of some kilobytes."""
        return self.adapter_parameters * FILE_BYTES[dtype]

    def memory(self, batch: int, checkpointing: bool, quantisation: str, offload: bool, dtype: str = "bfloat16") -> int:
        """Bytes at the peak of a step; `dtype` is what it computes in."""
        width = FILE_BYTES[dtype]
        weights = (self.resident_parameters if offload else self.base_parameters) * QUANTISED_BYTES.get(quantisation, width)
        activations = self.activation_bytes
        if checkpointing:
            activations = self.checkpointed_bytes + self.activation_bytes // max(1, self.blocks)
        return int(weights + self.adapter_parameters * (width + TRAINABLE_BYTES) + batch * activations * width // 2 + FIXED_BYTES)
