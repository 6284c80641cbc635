"""Mapping of ostris' ai-toolkit's setting names, as paths into its first process, to the studio's."""

from typing import Any

from studio.config.foreign.reader import Target, boolean, integer, number, one_of, optional, text

ARCHITECTURES = {
    **dict.fromkeys(("sd1", "sd15", "sd2"), "stable-diffusion"),
    "sdxl": "sdxl",
    "sd3": "sd3",
    **dict.fromkeys(("flux", "flex1"), "flux"),
    **dict.fromkeys(("flux2", "flux2_klein_4b", "flux2_klein_9b"), "flux2"),
    "qwen_image": "qwen-image",
    "zimage": "z-image",
    "krea2": "krea-2",
    "chroma": "chroma",
}
FLAGS = {"model.is_xl": "sdxl", "model.is_v3": "sd3", "model.is_flux": "flux", "model.is_v2": "stable-diffusion"}
TRAINERS = ("sd_trainer", "ui_trainer", "diffusion_trainer")
DISCRETE = ("stable-diffusion", "sdxl")
OPTIMIZER_ARGUMENTS: dict[str, dict[str, Any]] = {
    # Its own class, without the weight decay of bitsandbytes'.
    "adamw8": {"weight_decay": 0.0},
    "adafactor": {"relative_step": False, "scale_parameter": False},
    "prodigy": {"use_bias_correction": False, "safeguard_warmup": False},
    "prodigy8bit": {"use_bias_correction": False, "safeguard_warmup": False},
}
"""train.optimizer -> what it is called with where train.optimizer_params says nothing: every argument that the studio's entry sets to another value
than its class does."""
PRECISIONS = {
    **dict.fromkeys(("float16", "fp16"), "float16"),
    **dict.fromkeys(("bfloat16", "bf16"), "bfloat16"),
    **dict.fromkeys(("float32", "fp32", "float"), "float32"),
}
PRECISION = "float16 is chosen only for GPUs without bfloat16; the precision that suits this machine is used."
QUANTISATIONS = {**dict.fromkeys(("qfloat8", "float8"), "fp8"), **dict.fromkeys(("qint8", "int8"), "int8"), "nf4": "nf4"}
TIMESTEPS = {"sigmoid": ("logit_normal", 1.0), "linear": ("uniform", 1.0), "weighted": ("uniform", 1.0)}
MOST_PROMPTS = 12
SHIFTED = ("shift", "flux_shift", "lumina2_shift")
"""Types that use the timestep shift of the base's own scheduler."""

TABLE = {
    "trigger_word": Target("dataset.trigger_word", text),
    "network.type": Target("lora.method", one_of({"lora": "lora", "locon": "lora", "lokr": "lokr"})),
    "network.dropout": Target("lora.dropout", number),
    "save.dtype": Target("saving.dtype", one_of(PRECISIONS)),
    "datasets.caption_dropout_rate": Target("dataset.caption_dropout", number),
    "datasets.shuffle_tokens": Target("dataset.caption_shuffle", boolean),
    "datasets.keep_tokens": Target("dataset.caption_keep", integer),
    "datasets.flip_x": Target("dataset.flip", boolean),
    "datasets.num_repeats": Target("dataset.repeats", integer),
    "datasets.mask_min_value": Target("dataset.mask_floor", number),
    "train.batch_size": Target("training.train_batch_size", integer),
    "train.min_snr_gamma": Target("training.min_snr_gamma", optional(number)),
    "train.snr_gamma": Target("training.min_snr_gamma", optional(number)),
    "train.noise_offset": Target("training.noise_offset", number),
    "train.max_grad_norm": Target("training.max_grad_norm", number),
    "train.optimizer_params.weight_decay": Target("training.weight_decay", number),
    "train.lr_scheduler_params.power": Target("training.lr_power", number),
    "train.gradient_checkpointing": Target("runtime.gradient_checkpointing", boolean),
    "train.reg_weight": Target("prior.weight", number),
    "train.dtype": Target("runtime.dtype", one_of({name: kind for name, kind in PRECISIONS.items() if kind != "float16"}, PRECISION)),
    "sample.seed": Target("samples.seed", integer),
    "sample.sample_steps": Target("samples.num_inference_steps", integer),
    "sample.guidance_scale": Target("samples.guidance_scale", number),
}
DEFAULTS = {
    "network.linear": ("lora.rank", 4),
    "network.linear_alpha": ("lora.alpha", 1.0),
    "train.lr": ("training.learning_rate", 1e-6),
    "train.steps": ("training.max_train_steps", 1000),
    "train.batch_size": ("training.train_batch_size", 1),
    "train.gradient_accumulation": ("training.gradient_accumulation_steps", 1),
    "train.optimizer": ("training.optimizer", "adamw"),
    "train.lr_scheduler": ("training.lr_scheduler", "constant"),
    "train.min_snr_gamma": ("training.min_snr_gamma", None),
    "train.noise_offset": ("training.noise_offset", 0.0),
    "train.max_grad_norm": ("training.max_grad_norm", 1.0),
    "train.ema_config.use_ema": ("training.ema_decay", None),
    "datasets.resolution": ("dataset.resolution", 512),
    "datasets.caption_dropout_rate": ("dataset.caption_dropout", 0.0),
    "datasets.keep_tokens": ("dataset.caption_keep", 0),
}

PLACE = "it is a path on the computer where these settings were written."
OWN = "the studio handles this automatically."
UNNEEDED = {
    **dict.fromkeys(("training_folder", "sqlite_db_path", "device", "network.transformer_only"), OWN),
    **dict.fromkeys(("performance_log_every", "save.max_step_saves_to_keep", "save.save_format", "save.push_to_hub"), OWN),
    **dict.fromkeys(("save.hf_repo_id", "save.hf_private"), "publish the LoRA on the Publish tab."),
    **dict.fromkeys(("datasets.folder_path", "datasets.dataset_path", "datasets.mask_path", "datasets.caption_ext", "datasets.type"), PLACE),
    **dict.fromkeys(("datasets.cache_latents", "datasets.cache_latents_to_disk", "datasets.cache_text_embeddings", "datasets.buckets"), OWN),
    **dict.fromkeys(("datasets.bucket_tolerance", "datasets.num_workers", "datasets.shrink_video_to_frames", "datasets.fps"), OWN),
    **dict.fromkeys(("train.noise_scheduler", "train.xformers", "train.sdp", "train.attention_backend", "train.unload_text_encoder"), OWN),
    **dict.fromkeys(("train.cache_text_embeddings", "train.skip_first_sample", "train.force_first_sample", "train.switch_boundary_every"), OWN),
    **dict.fromkeys(("train.bypass_guidance_embedding", "train.linear_timesteps2", "train.disable_sampling"), OWN),
    **dict.fromkeys(("train.diff_output_preservation_multiplier", "train.diff_output_preservation_class", "train.text_encoder_lr"), OWN),
    **dict.fromkeys(("train.blank_prompt_preservation_multiplier", "network.lokr_factor", "network.old_lokr_format"), OWN),
    **dict.fromkeys(("model.arch", "model.is_xl", "model.is_flux", "model.is_v2", "model.is_v3", "model.is_v_pred", "model.dtype"), OWN),
    **dict.fromkeys(("model.qtype", "model.quantize_te", "model.qtype_te", "model.low_vram", "model.compile", "model.block_compile"), OWN),
    **dict.fromkeys(("model.layer_offloading_transformer_percent", "model.layer_offloading_text_encoder_percent"), OWN),
    **dict.fromkeys(("sample.sampler", "sample.sample_start_step", "sample.num_frames", "sample.fps", "sample.format"), OWN),
    **dict.fromkeys(("sample.width", "sample.height"), "samples have the base's own resolution; see Sample resolution."),
    **dict.fromkeys(("job", "meta.version", "process.type", "logging.log_every", "logging.use_wandb", "logging.verbose"), OWN),
    **dict.fromkeys(("logging.use_ui_logger", "logging.project_name", "logging.run_name"), OWN),
    **dict.fromkeys(("config.name", "meta.name"), "name the run under More settings."),
    "save.save_every": "a LoRA is saved with every column of the sample grid.",
    "network.conv_alpha": "it only affects conv.",
}
NO_COUNTERPART = "the studio has no counterpart; results may differ."
UNSUPPORTED = {
    **dict.fromkeys(("embedding", "adapter", "decorator", "slider", "network.all_layers", "train.short_and_long_captions"), NO_COUNTERPART),
    **dict.fromkeys(("datasets.random_scale", "datasets.random_crop", "datasets.flip_y", "datasets.token_dropout_rate"), NO_COUNTERPART),
    **dict.fromkeys(("datasets.augmentations", "datasets.augments", "datasets.controls", "datasets.control_path", "datasets.is_reg"), NO_COUNTERPART),
    **dict.fromkeys(("datasets.network_weight", "datasets.loss_multiplier", "datasets.invert_mask", "datasets.alpha_mask"), NO_COUNTERPART),
    **dict.fromkeys(("datasets.num_frames", "datasets.square_crop", "datasets.scale", "datasets.default_caption"), NO_COUNTERPART),
    **dict.fromkeys(
        ("train.content_or_style", "train.loss_type", "train.linear_timesteps", "train.learnable_snr_gos", "train.train_unet"), NO_COUNTERPART
    ),
    **dict.fromkeys(("train.diff_output_preservation", "train.blank_prompt_preservation", "train.prompt_dropout_prob"), NO_COUNTERPART),
    **dict.fromkeys(("train.do_differential_guidance", "train.do_guidance_loss", "train.do_cfg", "train.train_turbo"), NO_COUNTERPART),
    **dict.fromkeys(("train.min_denoising_steps", "train.max_denoising_steps", "train.noise_multiplier", "train.start_step"), NO_COUNTERPART),
    **dict.fromkeys(("train.inverted_mask_prior", "train.single_item_batching", "train.standardize_images"), NO_COUNTERPART),
    **dict.fromkeys(
        ("model.assistant_lora_path", "model.lora_path", "model.vae_path", "model.unet_path", "model.refiner_name_or_path"), NO_COUNTERPART
    ),
    **dict.fromkeys(("sample.neg", "sample.network_multiplier", "sample.guidance_rescale"), "samples do not use it."),
    "network.conv": "the studio does not train convolutions; only U-Nets have them.",
    "network.lokr_full_rank": "the studio always uses a rank; see Rank.",
    "network.pretrained_lora_path": "import that LoRA into the library and choose it under Start from a LoRA.",
    "sample.walk_seed": "all samples use the same seed.",
}
USUAL = {
    "train.train_unet": True,
    "datasets.network_weight": 1,
    "datasets.loss_multiplier": 1,
    "datasets.num_frames": 1,
    "datasets.scale": 1,
    "train.content_or_style": "balanced",
    "train.loss_type": "mse",
    "train.max_denoising_steps": 999,
    "train.noise_multiplier": 1,
    "sample.network_multiplier": 1,
}
