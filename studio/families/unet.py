"""Common base class of the U-Net families: layout, discrete noise schedule and CLIP's tokenizer."""

from studio.families.base import Family, text_beyond


class UNetFamily(Family):
    denoiser_name = "unet"
    denoiser_class = "UNet2DConditionModel"
    repeated_blocks = ("BasicTransformerBlock",)
    # Attention and feed-forward of every transformer block. proj_in and proj_out are linear in 2.x and the built-in base but convolutions
    # in 1.x, so they are left out: one list for all bases.
    target_modules = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")

    def width(self, base):
        return base.component_config("unet")["cross_attention_dim"]

    def resolution(self, base):
        vae = base.component_config("vae")
        return base.component_config("unet")["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)

    def bucket_step(self, base):
        """Makes sides divisible at every level of the U-Net."""
        vae, unet = base.component_config("vae"), base.component_config("unet")
        return 2 ** (len(vae["block_out_channels"]) - 1 + len(unet["block_out_channels"]) - 1)

    def prediction_type(self, base):
        return base.scheduler_config.get("prediction_type", "epsilon")

    def objective(self, pipeline, device):
        from studio.families.objectives import Objective

        return Objective(pipeline.scheduler.alphas_cumprod.float().to(device), pipeline.scheduler.config.prediction_type)

    def encode_images(self, pipeline, pixels_BCHW):
        # Unlike for later autoencoders, the config may contain a shift that the pipeline never applies.
        posterior = pipeline.vae.encode(pixels_BCHW.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
        scale = pipeline.vae.config.scaling_factor
        return posterior.mean * scale, posterior.std * scale

    def truncated_text(self, pipeline, prompt):
        return text_beyond(pipeline.tokenizer, prompt, pipeline.tokenizer.model_max_length - 2)
