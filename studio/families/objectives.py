"""Training objectives: noising, targets and loss weights of discrete diffusion and flow matching. Pure tensors.

Shapes: B batch, C channels, H and W latent height and width, T training timesteps. Timesteps are from 0 (clean) to 1000 (noise).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from studio.core.errors import StudioError

if TYPE_CHECKING:
    from diffusers.configuration_utils import FrozenDict

TIMESTEPS = 1000
CLEANEST, NOISIEST = 1e-4, 1 - 1e-4
"""Bounds of the noise levels: the logit of 0 and 1 is infinite."""


@dataclass(frozen=True)
class Objective:
    """Denoising with a discrete schedule. `alphas_cumprod_T` is the base's own, float32."""

    alphas_cumprod_T: Tensor
    prediction_type: str
    density: str = "uniform"
    min_snr_gamma: float | None = None

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise StudioError(f"This base predicts {self.prediction_type!r}; supported are epsilon and v_prediction. Choose another base.")

    def timesteps(self, uniform_B: Tensor, size: tuple[int, int]) -> Tensor:
        """Integer timesteps from uniform numbers in 0..1, by the density; `size` (height and width of the latents) is not used."""
        return (sample_noise_levels(uniform_B, self.density) * len(self.alphas_cumprod_T)).long().clamp(max=len(self.alphas_cumprod_T) - 1)

    def add_noise(self, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """q(x_t | x_0), equation 4 of Ho et al. 2020 (Denoising Diffusion Probabilistic Models)."""
        signal, sigma = self._rates(t_B)
        return signal * latents_BCHW + sigma * noise_BCHW

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The noise itself (Ho et al. 2020), or the velocity v = alpha eps - sigma x_0 (Salimans & Ho 2022, section 4 and appendix D)."""
        if self.prediction_type == "epsilon":
            return noise_BCHW
        signal, sigma = self._rates(t_B)
        return signal * noise_BCHW - sigma * latents_BCHW

    def weights(self, t_B: Tensor) -> Tensor:
        """Weight of each example. Min-SNR (Hang et al. 2023, section 3.4): min(SNR, gamma)/SNR for epsilon, over SNR + 1 for velocity.

        At zero terminal SNR (Lin et al. 2023) the weight of epsilon is the limit, 1. The input there is the target itself, so that step teaches
        nothing about the images.
        """
        if self.min_snr_gamma is None:
            return torch.ones(len(t_B), device=t_B.device)
        alphas_B = self.alphas_cumprod_T[t_B]
        snr_B = alphas_B / (1 - alphas_B)
        clamped_B = snr_B.clamp(max=self.min_snr_gamma)
        return torch.where(snr_B > 0, clamped_B / snr_B, 1.0) if self.prediction_type == "epsilon" else clamped_B / (snr_B + 1)

    def losses(self, prediction_BCHW: Tensor, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        """Weighted mean squared error of each example: (B,). A mask weights each position."""
        return self.weights(t_B) * squared_error(prediction_BCHW, self.target(latents_BCHW, noise_BCHW, t_B), mask_B1HW)

    def _rates(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        alphas_B111 = self.alphas_cumprod_T[t_B].view(-1, 1, 1, 1)
        return alphas_B111.sqrt(), (1 - alphas_B111).sqrt()


@dataclass(frozen=True)
class Shift:
    """Shift of a base's noise levels towards noise: a constant, or a function of the image size.

    The latter is exp(mu), mu linear between (smallest tokens, base_shift) and (largest tokens, max_shift), as in FLUX and similar models.
    """

    constant: float = 1.0
    dynamic: bool = False
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_tokens: int = 256
    max_tokens: int = 4096

    @classmethod
    def of(cls, scheduler_config: "FrozenDict") -> "Shift":
        """From the config of the base's FlowMatchEulerDiscreteScheduler."""
        return cls(
            scheduler_config.shift,
            bool(scheduler_config.use_dynamic_shifting),
            scheduler_config.base_shift,
            scheduler_config.max_shift,
            scheduler_config.base_image_seq_len,
            scheduler_config.max_image_seq_len,
        )

    def factor(self, tokens: int) -> float:
        if not self.dynamic:
            return self.constant
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return math.exp(self.base_shift + slope * (tokens - self.base_tokens))


@dataclass(frozen=True)
class FlowMatching:
    """Rectified flow: a straight line from the image to the noise (Liu et al. 2022; Lipman et al. 2022). The denoiser predicts the velocity.

    `patch` is the side of the square of latents per token.
    """

    shift: Shift
    density: str = "logit_normal"
    patch: int = 2

    prediction_type = "flow"

    def timesteps(self, uniform_B: Tensor, size: tuple[int, int]) -> Tensor:
        """Timesteps, not rounded, from uniform numbers in 0..1: by the density (Esser et al. 2024, section 3.1), then shifted towards noise by
        sigma' = s sigma / (1 + (s - 1) sigma) (its equation 23)."""
        factor = self.shift.factor(size[0] * size[1] // self.patch**2)
        sigma_B = sample_noise_levels(uniform_B, self.density)
        return (TIMESTEPS * factor * sigma_B / (1 + (factor - 1) * sigma_B)).float()

    def add_noise(self, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """x_t = (1 - sigma) x_0 + sigma eps (Esser et al. 2024, equation 13)."""
        sigma_B111 = self._sigma(t_B)
        return (1 - sigma_B111) * latents_BCHW + sigma_B111 * noise_BCHW

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The velocity eps - x_0, the same everywhere on the line."""
        return noise_BCHW - latents_BCHW

    def losses(self, prediction_BCHW: Tensor, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        """Mean squared error of each example: (B,). A mask weights each position."""
        return squared_error(prediction_BCHW, self.target(latents_BCHW, noise_BCHW, t_B), mask_B1HW)

    def _sigma(self, t_B: Tensor) -> Tensor:
        return (t_B / TIMESTEPS).view(-1, 1, 1, 1)


def sample_noise_levels(uniform_B: Tensor, density: str) -> Tensor:
    """Noise levels in 0..1 from uniform numbers: unchanged, or through the inverse of the logit-normal's cumulative distribution."""
    if density == "uniform":
        return uniform_B
    return torch.sigmoid(torch.special.ndtri(uniform_B.clamp(CLEANEST, NOISIEST)))


def squared_error(prediction_BCHW: Tensor, target_BCHW: Tensor, mask_B1HW: Tensor | None) -> Tensor:
    """Mean squared error of each example, in float32. The loss is normalised by the mask's mean, so that a mask keeps its scale."""
    error_BCHW = (prediction_BCHW.float() - target_BCHW.float()).square()
    if mask_B1HW is None:
        return error_BCHW.mean(dim=(1, 2, 3))
    weighted_B = (error_BCHW * mask_B1HW).mean(dim=(1, 2, 3))
    return weighted_B / mask_B1HW.mean(dim=(1, 2, 3)).clamp(min=1e-3)
