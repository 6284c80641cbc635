"""Memory footprint of a training run, and from it the peak memory of each of its phases. No torch."""

import math
from dataclasses import dataclass

from studio.config import TrainConfig, optimizers
from studio.config.training import TrainingConfig

FILE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTISED_BYTES = {"int8": 1.1, "fp8": 1.05, "nf4": 0.6}
"""Bytes per parameter of the quantised denoiser, including the scales of each block (Dettmers et al. 2023, section 3)."""
MASTER_BYTES = GRADIENT_BYTES = EMA_BYTES = 4
"""Bytes per trainable parameter, all in 32 bits."""
FIXED_BYTES = 700_000_000
"""CUDA context (about 500 MB on recent GPUs) or the program itself, and the workspaces of cuBLAS and cuDNN."""
GAPS = 1.04
"""Memory of the allocator divided by that of the tensors in it: freed blocks of other sizes lie between them."""
RAM_SHARE = 1.15
"""RAM that an offloaded base takes, divided by its size."""
MULTIPROCESSORS = 132
"""Of an H100; other GPUs have at most a few more. They decide how many sums the deterministic backward pass of attention keeps."""


def checkpoint_bytes(training: TrainingConfig) -> float:
    """Bytes per trainable parameter that a checkpoint holds: master weight, the optimizer's state and the EMA."""
    return MASTER_BYTES + optimizers.get(training.optimizer).state_bytes + EMA_BYTES * bool(training.ema_decay)


@dataclass(frozen=True)
class Savings:
    """Ways to save memory that change the speed of a step."""

    gradient_checkpointing: bool = False
    quantisation: str = "none"
    offload: bool = False

    def describe(self) -> str:
        """As a list in a sentence."""
        savings = [
            *(["gradient checkpointing"] if self.gradient_checkpointing else []),
            *([f"base quantised to {self.quantisation}"] if self.quantisation != "none" else []),
            *(["blocks offloaded to RAM"] if self.offload else []),
        ]
        return ", ".join(savings) if savings else "no memory savings"


@dataclass(frozen=True)
class Plan:
    """Peak memory in bytes of each phase of a run: encoding an image, a training step, and a sample, decoded at once or in tiles."""

    encode: int
    step: int
    sample: int
    tiled_sample: int

    def needed(self, free: int) -> int:
        """Peak of the run in `free` bytes: images that do not fit there are encoded on the CPU and decoded in tiles."""
        return max(self.step, self.sample if self.sample <= free else self.tiled_sample, self.encode if self.encode <= free else 0)

    def fits(self, free: int) -> bool:
        return max(self.step, self.tiled_sample) <= free


@dataclass(frozen=True)
class Footprint:
    """Footprint of one training run. Bytes are for one image in 16 bits, without weights, if nothing else is stated."""

    base_parameters: int
    adapter_parameters: int
    resident_parameters: int
    """Parameters of the base on the GPU when blocks are offloaded to RAM: those outside blocks, the current block and the next one."""
    encoder_parameters: int
    """Parameters of the text encoders, which stay in memory if they are trained or if captions are shuffled."""
    step_bytes: int
    """Peak of forward and backward."""
    checkpointed_step_bytes: int
    """The same with gradient checkpointing."""
    attention_bytes: int
    """Of the largest attention's query in float32: its backward pass accumulates as many of them as there are splits."""
    attention_heads: int
    sample_bytes: int
    """Peak of the denoiser in a sample, for two prompts if the base uses guidance."""
    encode_bytes: int
    """Peak of encoding a training image in float32, with the autoencoder's weights."""
    decode_bytes: int
    """Peak of decoding a sample, with the autoencoder's weights."""
    tile_bytes: int
    """The same in tiles."""

    def adapter_bytes(self, dtype: str) -> int:
        """Size of the adapter file, without its header of some kilobytes."""
        return self.adapter_parameters * FILE_BYTES[dtype]

    def plan(self, config: TrainConfig, savings: Savings, dtype: str = "bfloat16") -> Plan:
        """Peak memory of each phase with these savings; `dtype` is the precision of computation."""
        width, training = FILE_BYTES[dtype], config.training
        base = (self.resident_parameters if savings.offload else self.base_parameters) * QUANTISED_BYTES.get(savings.quantisation, width)
        if config.lora.text_encoder or config.dataset.caption_shuffle:
            base += self.encoder_parameters * width
        # The working copy in the precision of computation, and what the optimizer needs.
        adapter = self.adapter_parameters * (width + GRADIENT_BYTES + checkpoint_bytes(training))
        step = training.train_batch_size * (self.checkpointed_step_bytes if savings.gradient_checkpointing else self.step_bytes) * width // 2
        if config.runtime.exact:
            step += self._deterministic_bytes(training.train_batch_size)
        # With a recorded step the memory of a step stays reserved for its CUDA graph.
        kept = step if config.runtime.execution == "graph" else 0
        has_samples = bool(config.samples.prompts) or bool(config.prior.prompt.strip())
        drawn = [max(self.sample_bytes, decoding) * width // 2 if has_samples else 0 for decoding in (self.decode_bytes, self.tile_bytes)]
        # The adapter in the file is loaded for a sample, beside the one in training.
        weights = base + adapter + self.adapter_parameters * width
        sample, tiled_sample = (weights + GAPS * (kept + bytes_) if bytes_ else 0 for bytes_ in drawn)
        phases = (GAPS * self.encode_bytes, base + adapter + GAPS * step, sample, tiled_sample)
        return Plan(*(math.ceil(FIXED_BYTES + bytes_) for bytes_ in phases))

    def base_bytes(self, savings: Savings, dtype: str = "bfloat16") -> int:
        """Bytes of the denoiser's weights as a whole, which an offloaded one takes in RAM."""
        return math.ceil(self.base_parameters * QUANTISED_BYTES.get(savings.quantisation, FILE_BYTES[dtype]))

    def _deterministic_bytes(self, batch_size: int) -> int:
        """Memory that the deterministic backward pass of FlashAttention takes beside that of the other one: each split over the keys adds up the
        query's gradient on its own, and there are as many as keep all multiprocessors busy (flash_bwd_launch_template.h)."""
        heads = max(1, batch_size * self.attention_heads)
        return (-(-MULTIPROCESSORS // heads) - 1) * batch_size * self.attention_bytes


@dataclass(frozen=True)
class Placement:
    """Where the parts of a loaded base are while it generates images. Everything else is on the GPU."""

    encoders_in_ram: bool = False
    """Text encoders stay in RAM, and prompts are encoded on the CPU."""
    offload: bool = False
    """The blocks of the denoiser are in RAM and move to the GPU one by one."""
    quantisation: str = "none"

    def describe(self) -> str:
        """As a list in a sentence; empty if everything is on the GPU."""
        parts = [
            *([f"the base is quantised to {self.quantisation}"] if self.quantisation != "none" else []),
            *(["its blocks are offloaded to RAM"] if self.offload else []),
            *(["prompts are encoded on the CPU"] if self.encoders_in_ram else []),
        ]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


ON_GPU = Placement()
PLACEMENTS = (
    ON_GPU,
    Placement(encoders_in_ram=True),
    Placement(offload=True),
    Placement(encoders_in_ram=True, offload=True),
    Placement(quantisation="nf4"),
    Placement(encoders_in_ram=True, quantisation="nf4"),
    Placement(encoders_in_ram=True, offload=True, quantisation="nf4"),
)
"""From the first to the last choice: those that give the image of the base as it is come before those that quantise it."""


@dataclass(frozen=True)
class GenerationFootprint:
    """Footprint of a base that generates images. Bytes are for 16 bits."""

    base_parameters: int
    resident_parameters: int
    encoder_parameters: int
    sample_bytes: int
    """Peak of the denoiser, for two prompts if the base uses guidance."""
    tile_bytes: int
    """Peak of decoding an image in tiles, with the autoencoder's weights."""

    def on_gpu(self, placement: Placement, dtype: str) -> int:
        """Peak bytes on the GPU."""
        width = FILE_BYTES[dtype]
        base = (self.resident_parameters if placement.offload else self.base_parameters) * QUANTISED_BYTES.get(placement.quantisation, width)
        encoders = 0 if placement.encoders_in_ram else self.encoder_parameters * width
        return math.ceil(base + encoders + GAPS * max(self.sample_bytes, self.tile_bytes) * width / 2 + FIXED_BYTES)

    def in_ram(self, placement: Placement, dtype: str) -> int:
        """Bytes in RAM while images are generated."""
        width = FILE_BYTES[dtype]
        base = RAM_SHARE * self.base_parameters * QUANTISED_BYTES.get(placement.quantisation, width) if placement.offload else 0
        return math.ceil(base + (self.encoder_parameters * width if placement.encoders_in_ram else 0))
