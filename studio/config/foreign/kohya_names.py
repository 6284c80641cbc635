"""What kohya's trainers call things, and what those are here. The one table for their names."""

from studio.config.foreign.border import Term, number, one_of, optional, whole, word, yes
from studio.families.stable_diffusion import SD15, SD21

MODULES = {
    "networks.lora_flux": "flux",
    "networks.lora_sd3": "sd3",
    "networks.lora_flux_2": "flux2",
    "networks.lora_qwen_image": "qwen-image",
    "networks.lora_zimage": "z-image",
    "networks.lora_krea2": "krea-2",
}
PLAIN = ("lora", "lora_fa", "locon", "")
"""What the plain kind is called: the last word of its module, or the algorithm of lycoris."""
MUSUBI = ("networks.lora_flux_2", "networks.lora_qwen_image", "networks.lora_zimage", "networks.lora_krea2")
"""These never teach text encoders, and their flow shift is 1 unless said."""
NO_CLIP = ("chroma", "flux2", "qwen-image", "z-image", "krea-2")
"""Families without a text encoder that learns there."""
FLOWS = ("flux", "sd3", "chroma", "flux2", "qwen-image", "z-image", "krea-2")
ALIASES = {
    "runwayml/stable-diffusion-v1-5": SD15.id,
    "stable-diffusion-v1-5": SD15.id,
    "stabilityai/stable-diffusion-2-1": SD21.id,
    "stabilityai/stable-diffusion-2-1-base": SD21.id,
}
OPTIMIZER_FLAGS = {"use_8bit_adam": "adamw8bit", "use_lion_optimizer": "lion"}
"""Older settings, each of which is an optimizer_type."""
OPTIMIZER_ARGUMENTS = {"adafactor": {"relative_step": True, "scale_parameter": True}}
"""optimizer_type -> what it is called with where optimizer_args says nothing."""
PRECISION = "the studio computes in bfloat16 or float32; what suits this machine is used."
PRECISIONS = {"float": "float32", "fp16": "float16", "bf16": "bfloat16"}

TABLE = {
    "network_dim": Term("lora.rank", whole),
    "network_dropout": Term("lora.dropout", number),
    "train_batch_size": Term("training.train_batch_size", whole),
    "batch_size": Term("training.train_batch_size", whole),
    "gradient_accumulation_steps": Term("training.gradient_accumulation_steps", whole),
    "lr_scheduler_num_cycles": Term("training.lr_num_cycles", whole),
    "lr_scheduler_power": Term("training.lr_power", number),
    "max_grad_norm": Term("training.max_grad_norm", number),
    "min_snr_gamma": Term("training.min_snr_gamma", optional(number)),
    "noise_offset": Term("training.noise_offset", number),
    "seed": Term("training.seed", whole),
    "num_repeats": Term("dataset.repeats", whole),
    "dataset_repeats": Term("dataset.repeats", whole),
    "caption_dropout_rate": Term("dataset.caption_dropout", number),
    "shuffle_caption": Term("dataset.caption_shuffle", yes),
    "keep_tokens": Term("dataset.caption_keep", whole),
    "flip_aug": Term("dataset.flip", yes),
    "masked_loss": Term("dataset.masks", yes),
    "prior_loss_weight": Term("prior.weight", number),
    "class_tokens_of_regularisation": Term("prior.prompt", word),
    "validate_every_n_steps": Term("validation.every", whole),
    "save_precision": Term("saving.dtype", one_of(PRECISIONS)),
    "gradient_checkpointing": Term("runtime.gradient_checkpointing", yes),
    "mixed_precision": Term("runtime.dtype", one_of({"no": "float32", "bf16": "bfloat16"}, PRECISION)),
}
DEFAULTS = {
    "network_dim": ("lora.rank", 4),
    "network_alpha": ("lora.alpha", 1.0),
    "learning_rate": ("training.learning_rate", 2e-6),
    "max_train_steps": ("training.max_train_steps", 1600),
    "train_batch_size": ("training.train_batch_size", 1),
    "gradient_accumulation_steps": ("training.gradient_accumulation_steps", 1),
    "optimizer_type": ("training.optimizer", "adamw"),
    "lr_scheduler": ("training.lr_scheduler", "constant"),
    "lr_warmup_steps": ("training.lr_warmup_steps", 0),
    "lr_scheduler_num_cycles": ("training.lr_num_cycles", 1),
    "lr_scheduler_power": ("training.lr_power", 1.0),
    "min_snr_gamma": ("training.min_snr_gamma", None),
    "noise_offset": ("training.noise_offset", 0.0),
    "max_grad_norm": ("training.max_grad_norm", 1.0),
    "caption_dropout_rate": ("dataset.caption_dropout", 0.0),
    "keep_tokens": ("dataset.caption_keep", 0),
}
SIGNS = (
    *("network_module", "network_dim", "network_alpha", "network_args", "optimizer_args", "unet_lr", "max_train_epochs", "train_data_dir"),
    *("dataset_config", "datasets", "enable_bucket", "caption_extension", "save_every_n_steps", "sample_every_n_steps", "save_every_n_epochs"),
)
"""No other trainer calls its settings so."""
TRAINING = (
    *("network_module", "network_dim", "network_alpha", "network_args", "pretrained_model_name_or_path", "dit", "learning_rate", "unet_lr"),
    *("max_train_steps", "max_train_epochs", "optimizer_type", "optimizer_args", "lr_scheduler", "lr_warmup_steps"),
)
"""A file with one of these is about training; the others only say how datasets are shown."""

PLACE = "it names a place on the computer that this was written on."
OWN = "the studio sees to this by itself."
PICTURES = "the pictures are chosen under Pictures & captions."
NEEDLESS = {
    **dict.fromkeys(
        ("output_dir", "output_name", "logging_dir", "vae", "ae", "clip_l", "clip_g", "t5xxl", "text_encoder", "tokenizer_cache_dir"), PLACE
    ),
    **dict.fromkeys(("train_data_dir", "reg_data_dir", "dataset_config", "in_json", "image_dir", "image_directory", "cache_directory"), PICTURES),
    **dict.fromkeys(("caption_extension", "caption_extention", "caption_separator", "class_tokens", "metadata_file", "image_jsonl_file"), PICTURES),
    **dict.fromkeys(("cache_latents", "cache_latents_to_disk", "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk"), OWN),
    **dict.fromkeys(("enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale", "vae_batch_size"), OWN),
    **dict.fromkeys(("xformers", "sdpa", "mem_eff_attn", "flash_attn", "sage_attn", "split_attn", "torch_compile", "dynamo_backend"), OWN),
    **dict.fromkeys(("max_data_loader_n_workers", "persistent_data_loader_workers", "lowram", "highvram", "no_half_vae", "full_bf16"), OWN),
    **dict.fromkeys(("save_model_as", "save_state", "save_state_on_train_end", "save_last_n_steps", "save_last_n_epochs", "no_metadata"), OWN),
    **dict.fromkeys(("log_with", "log_prefix", "log_tracker_name", "wandb_run_name", "training_comment", "log_config", "ddp_timeout"), OWN),
    **dict.fromkeys(("sample_sampler", "sample_at_first", "t5xxl_max_token_length", "apply_t5_attn_mask", "use_safetensors"), OWN),
    **dict.fromkeys(("v2", "v_parameterization", "model_type", "sdxl"), OWN),
    **dict.fromkeys(("weighting_scheme", "discrete_flow_shift", "training_shift"), OWN),
    "sample_prompts": "it names a file with prompts; write them under Sample prompts.",
    "enable_wildcard": "captions are taken as they stand.",
}
ROUGHER = "the studio has nothing like it; without it the result may differ."
UNSUPPORTED = {
    **dict.fromkeys(("clip_skip", "scale_weight_norms", "multires_noise_iterations", "multires_noise_discount", "ip_noise_gamma"), ROUGHER),
    **dict.fromkeys(("adaptive_noise_scale", "zero_terminal_snr", "debiased_estimation_loss", "scale_v_pred_loss_like_noise_pred"), ROUGHER),
    **dict.fromkeys(("v_pred_like_loss", "loss_type", "huber_schedule", "huber_c", "weighted_captions", "color_aug", "random_crop"), ROUGHER),
    **dict.fromkeys(("face_crop_aug_range", "caption_tag_dropout_rate", "caption_dropout_every_n_epochs", "caption_prefix"), ROUGHER),
    **dict.fromkeys(("caption_suffix", "token_warmup_min", "token_warmup_step", "keep_tokens_separator", "secondary_separator"), ROUGHER),
    **dict.fromkeys(("alpha_mask", "base_weights", "base_weights_multiplier", "network_train_text_encoder_only"), ROUGHER),
    **dict.fromkeys(
        ("min_timestep", "max_timestep", "full_fp16", "lr_scheduler_type", "lr_scheduler_args", "guidance_scale", "model_prediction_type"), ROUGHER
    ),
    **dict.fromkeys(("sigmoid_scale", "logit_mean", "logit_std"), ROUGHER),
    "max_token_length": "captions end here where the base stops reading; the run says which.",
    "network_weights": "bring that LoRA into the library and name it under Start from a LoRA.",
    "resume": "a training of another program cannot be gone on with.",
}

USUAL = {"sigmoid_scale": 1.0, "logit_std": 1.0, "max_timestep": 1000, "loss_type": "l2", "model_prediction_type": "raw", "guidance_scale": 1.0}
PICTURES_OF_A_FOLDER = ("image_dir", "image_directory", "cache_directory", "class_tokens", "caption_extension")
"""Of a further folder these are not worth a word: its pictures are not brought."""
