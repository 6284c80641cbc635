"""Common base class of the U-Net families: layout, discrete noise schedule and CLIP's tokenizer."""

from typing import TYPE_CHECKING

from studio.families.base import Family, text_beyond
from studio.families.facts import BaseFolder

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from studio.families.objectives import FlowMatching, Objective


class UNetFamily(Family):
    denoiser_name = "unet"
    denoiser_class = "UNet2DConditionModel"
    repeated_blocks = ("BasicTransformerBlock",)
    # Attention and feed-forward of every transformer block. proj_in and proj_out are linear in 2.x and the built-in base but convolutions
    # in 1.x, so they are left out: one list for all bases.
    target_modules = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")

    def width(self, base: BaseFolder) -> int | None:
        return base.component_config("unet")["cross_attention_dim"]

    def resolution(self, base: BaseFolder) -> int:
        vae = base.component_config("vae")
        return base.component_config("unet")["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)

    def bucket_step(self, base: BaseFolder) -> int:
        """Makes sides divisible at every level of the U-Net."""
        vae, unet = base.component_config("vae"), base.component_config("unet")
        return 2 ** (len(vae["block_out_channels"]) - 1 + len(unet["block_out_channels"]) - 1)

    def prediction_type(self, base: BaseFolder) -> str:
        return base.scheduler_config.get("prediction_type", "epsilon")

    def objective(self, pipeline: "DiffusionPipeline", device: "torch.device") -> "Objective | FlowMatching":
        from studio.families.objectives import Objective

        return Objective(pipeline.scheduler.alphas_cumprod.float().to(device), pipeline.scheduler.config.prediction_type)

    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        # Unlike for later autoencoders, the config may contain a shift that the pipeline never applies.
        posterior = pipeline.vae.encode(pixels_BCHW.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
        scale = pipeline.vae.config.scaling_factor
        return posterior.mean * scale, posterior.std * scale

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        return text_beyond(pipeline.tokenizer, prompt, pipeline.tokenizer.model_max_length - 2)
