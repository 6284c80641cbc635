"""Memory footprint of a training run: parameters, activations, and bytes at the peak of a step. No torch."""

from dataclasses import dataclass

from studio.config import optimizers
from studio.config.training import TrainingConfig

FILE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTISED_BYTES = {"int8": 1.1, "fp8": 1.05, "nf4": 0.6}
"""Bytes per parameter of the quantised denoiser, including the scales of each block (Dettmers et al. 2023, section 3)."""
MASTER_BYTES = GRADIENT_BYTES = EMA_BYTES = 4
"""Bytes per trainable parameter, all in 32 bits."""
FIXED_BYTES = 900_000_000
"""CUDA context or the program itself, library workspaces, and the autoencoder for samples."""


def checkpoint_bytes(training: TrainingConfig) -> float:
    """Bytes per trainable parameter that a checkpoint holds: master weight, the optimizer's state and the EMA."""
    return MASTER_BYTES + optimizers.get(training.optimizer).state_bytes + EMA_BYTES * bool(training.ema_decay)


@dataclass(frozen=True)
class Footprint:
    """Footprint of one training run. Activations are for one image in 16 bits, without and with gradient checkpointing."""

    base_parameters: int
    adapter_parameters: int
    activation_bytes: int
    checkpointed_bytes: int
    blocks: int
    resident_parameters: int
    """Parameters of the base on the GPU when blocks are offloaded to RAM: those outside blocks, the current block and the next one."""

    def adapter_bytes(self, dtype: str) -> int:
        """Size of the adapter file, without its header of some kilobytes."""
        return self.adapter_parameters * FILE_BYTES[dtype]

    def memory(self, training: TrainingConfig, checkpointing: bool, quantisation: str, offload: bool, dtype: str = "bfloat16") -> int:
        """Bytes at the peak of a step; `dtype` is the compute precision. `training` has the batch size, the optimizer and the EMA."""
        width = FILE_BYTES[dtype]
        weights = (self.resident_parameters if offload else self.base_parameters) * QUANTISED_BYTES.get(quantisation, width)
        activations = self.activation_bytes
        if checkpointing:
            activations = self.checkpointed_bytes + self.activation_bytes // max(1, self.blocks)
        # The working copy in the compute precision, and what the optimizer needs.
        adapter = self.adapter_parameters * (width + GRADIENT_BYTES + checkpoint_bytes(training))
        return int(weights + adapter + training.train_batch_size * activations * width // 2 + FIXED_BYTES)
