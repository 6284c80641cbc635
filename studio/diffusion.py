"""What a denoiser is asked to predict, and how a mistake is weighed. Pure tensors.

Shapes: B batch, C channels, H and W latent height and width, T training timesteps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from studio.errors import StudioError


@dataclass(frozen=True)
class Objective:
    """Denoising with a discrete schedule. `alphas_cumprod_T` is the base's own, float32."""

    alphas_cumprod_T: Tensor
    prediction_type: str

    def __post_init__(self):
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise StudioError(f"This base predicts {self.prediction_type!r}; the studio can train epsilon and v_prediction. Choose another base.")

    def timesteps(self, uniform_B: Tensor) -> Tensor:
        """Whole timesteps from numbers in 0..1, each equally likely."""
        return (uniform_B * len(self.alphas_cumprod_T)).long().clamp(max=len(self.alphas_cumprod_T) - 1)

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

    def weights(self, t_B: Tensor, min_snr_gamma: float | None) -> Tensor:
        """Weight of each example. Min-SNR (Hang et al. 2023, section 3.4): min(SNR, gamma)/SNR for epsilon, over SNR + 1 for velocity."""
        if min_snr_gamma is None:
            return torch.ones(len(t_B), device=t_B.device)
        alphas_B = self.alphas_cumprod_T[t_B]
        snr_B = alphas_B / (1 - alphas_B)
        divisor = snr_B if self.prediction_type == "epsilon" else snr_B + 1
        return snr_B.clamp(max=min_snr_gamma) / divisor

    def loss(self, prediction_BCHW: Tensor, latents_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor, min_snr_gamma: float | None) -> Tensor:
        """Weighted mean squared error, a scalar."""
        error_B = (prediction_BCHW.float() - self.target(latents_BCHW, noise_BCHW, t_B).float()).square().mean(dim=(1, 2, 3))
        return (self.weights(t_B, min_snr_gamma) * error_B).mean()

    def _rates(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        alphas_B111 = self.alphas_cumprod_T[t_B].view(-1, 1, 1, 1)
        return alphas_B111.sqrt(), (1 - alphas_B111).sqrt()
