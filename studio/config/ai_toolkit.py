"""Settings of ostris' ai-toolkit: a YAML (or JSON) job whose first process trains. Its names are written here as paths, train.lr.

What it does where a file says nothing was read in its version of August 2026: rank 4, alpha 1, learning rate 1e-6, 1,000 steps, sigmoid timesteps.
"""

import math
from typing import Any

from studio.config import shipped
from studio.config.border import OFF, Border, Imported, Term, Unfit, number, one_of, optional, whole, word, yes

SOURCE = "ostris' ai-toolkit"
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
DISCRETE = ("stable-diffusion", "sdxl")
OPTIMIZERS = {"adamw": "adamw", "adamw8bit": "adamw8bit", "adamw8": "adamw8bit", "prodigy": "prodigy", "prodigy8bit": "prodigy"}
PRECISIONS = {
    **dict.fromkeys(("float16", "fp16"), "float16"),
    **dict.fromkeys(("bfloat16", "bf16"), "bfloat16"),
    **dict.fromkeys(("float32", "fp32", "float"), "float32"),
}
PACKINGS = {**dict.fromkeys(("qfloat8", "float8"), "fp8"), **dict.fromkeys(("qint8", "int8"), "int8"), "nf4": "nf4"}
TIMESTEPS = {"sigmoid": ("logit_normal", 1.0), "linear": ("uniform", 1.0), "weighted": ("uniform", 1.0)}
MOST_PROMPTS = 12
SHIFTED = ("shift", "flux_shift", "lumina2_shift")
"""As the base's own scheduler spreads them when it draws."""

TABLE = {
    "trigger_word": Term("dataset.trigger_word", word),
    "network.type": Term("lora.method", one_of({"lora": "lora", "locon": "lora", "lokr": "lokr"})),
    "network.dropout": Term("lora.dropout", number),
    "save.dtype": Term("saving.dtype", one_of(PRECISIONS)),
    "datasets.caption_dropout_rate": Term("dataset.caption_dropout", number),
    "datasets.shuffle_tokens": Term("dataset.caption_shuffle", yes),
    "datasets.keep_tokens": Term("dataset.caption_keep", whole),
    "datasets.flip_x": Term("dataset.flip", yes),
    "datasets.num_repeats": Term("dataset.repeats", whole),
    "datasets.mask_min_value": Term("dataset.mask_floor", number),
    "train.batch_size": Term("training.train_batch_size", whole),
    "train.min_snr_gamma": Term("training.min_snr_gamma", optional(number)),
    "train.snr_gamma": Term("training.min_snr_gamma", optional(number)),
    "train.noise_offset": Term("training.noise_offset", number),
    "train.max_grad_norm": Term("training.max_grad_norm", number),
    "train.optimizer_params.weight_decay": Term("training.weight_decay", number),
    "train.gradient_checkpointing": Term("runtime.gradient_checkpointing", yes),
    "train.reg_weight": Term("prior.weight", number),
    "train.dtype": Term("runtime.dtype", one_of({name: kind for name, kind in PRECISIONS.items() if kind != "float16"})),
    "sample.seed": Term("samples.seed", whole),
    "sample.sample_steps": Term("samples.num_inference_steps", whole),
    "sample.guidance_scale": Term("samples.guidance_scale", number),
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
}

PLACE = "it names a place on the computer that this was written on."
OWN = "the studio sees to this by itself."
NEEDLESS = {
    **dict.fromkeys(("training_folder", "sqlite_db_path", "device", "network.transformer_only", "train.train_unet"), OWN),
    **dict.fromkeys(("performance_log_every", "save.max_step_saves_to_keep", "save.save_format", "save.push_to_hub"), OWN),
    **dict.fromkeys(("save.hf_repo_id", "save.hf_private"), "publish under Publish, once the LoRA is good."),
    **dict.fromkeys(("datasets.folder_path", "datasets.dataset_path", "datasets.mask_path", "datasets.caption_ext", "datasets.type"), PLACE),
    **dict.fromkeys(("datasets.cache_latents", "datasets.cache_latents_to_disk", "datasets.cache_text_embeddings", "datasets.buckets"), OWN),
    **dict.fromkeys(("datasets.bucket_tolerance", "datasets.num_workers", "datasets.shrink_video_to_frames", "datasets.fps"), OWN),
    **dict.fromkeys(("train.noise_scheduler", "train.xformers", "train.sdp", "train.attention_backend", "train.unload_text_encoder"), OWN),
    **dict.fromkeys(("train.cache_text_embeddings", "train.skip_first_sample", "train.force_first_sample", "train.switch_boundary_every"), OWN),
    **dict.fromkeys(("train.bypass_guidance_embedding", "train.linear_timesteps2", "train.ema_config.ema_decay", "train.disable_sampling"), OWN),
    **dict.fromkeys(("train.diff_output_preservation_multiplier", "train.diff_output_preservation_class", "train.text_encoder_lr"), OWN),
    **dict.fromkeys(("train.blank_prompt_preservation_multiplier", "network.lokr_factor", "network.old_lokr_format"), OWN),
    **dict.fromkeys(("model.arch", "model.is_xl", "model.is_flux", "model.is_v2", "model.is_v3", "model.is_v_pred", "model.dtype"), OWN),
    **dict.fromkeys(("model.qtype", "model.quantize_te", "model.qtype_te", "model.low_vram", "model.compile", "model.block_compile"), OWN),
    **dict.fromkeys(("model.layer_offloading_transformer_percent", "model.layer_offloading_text_encoder_percent"), OWN),
    **dict.fromkeys(("sample.sampler", "sample.sample_start_step", "sample.num_frames", "sample.fps", "sample.format"), OWN),
    **dict.fromkeys(("sample.width", "sample.height"), "the film is drawn at the base's own size."),
    "save.save_every": "a LoRA is kept with every column of the film.",
    "network.conv_alpha": "it belongs to conv.",
}
ROUGHER = "the studio has nothing like it; without it the result may differ."
UNSUPPORTED = {
    **dict.fromkeys(("embedding", "adapter", "decorator", "slider", "network.all_layers", "train.short_and_long_captions"), ROUGHER),
    **dict.fromkeys(("datasets.random_scale", "datasets.random_crop", "datasets.flip_y", "datasets.token_dropout_rate"), ROUGHER),
    **dict.fromkeys(("datasets.augmentations", "datasets.augments", "datasets.controls", "datasets.control_path", "datasets.is_reg"), ROUGHER),
    **dict.fromkeys(("datasets.network_weight", "datasets.loss_multiplier", "datasets.invert_mask", "datasets.alpha_mask"), ROUGHER),
    **dict.fromkeys(("datasets.num_frames", "datasets.square_crop", "datasets.scale", "datasets.default_caption"), ROUGHER),
    **dict.fromkeys(("train.content_or_style", "train.loss_type", "train.linear_timesteps", "train.learnable_snr_gos"), ROUGHER),
    **dict.fromkeys(("train.diff_output_preservation", "train.blank_prompt_preservation", "train.prompt_dropout_prob"), ROUGHER),
    **dict.fromkeys(("train.do_differential_guidance", "train.do_guidance_loss", "train.do_cfg", "train.train_turbo"), ROUGHER),
    **dict.fromkeys(("train.min_denoising_steps", "train.max_denoising_steps", "train.noise_multiplier", "train.start_step"), ROUGHER),
    **dict.fromkeys(("train.inverted_mask_prior", "train.single_item_batching", "train.standardize_images"), ROUGHER),
    **dict.fromkeys(("model.assistant_lora_path", "model.lora_path", "model.vae_path", "model.unet_path", "model.refiner_name_or_path"), ROUGHER),
    **dict.fromkeys(("sample.neg", "sample.network_multiplier", "sample.guidance_rescale"), "the film is drawn without it."),
    "network.conv": "the studio does not teach convolutions; only U-Nets have them.",
    "network.lokr_full_rank": "here a rank is always kept; choose it under Detail it can hold.",
    "network.pretrained_lora_path": "bring that LoRA into the library and name it under Start from a LoRA.",
    "sample.walk_seed": "every sample of the film is drawn from the same seed.",
}
USUAL = {
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


def read(values: dict[str, Any], pictures: int = 0) -> Imported:
    """`pictures` is not needed: this trainer counts in steps."""
    border = Border(_flat(values))
    border.translate(TABLE)
    family = _family(border)
    _network(border)
    _sizes(border)
    _steps(border)
    _optimizer(border)
    _text_encoder(border, family)
    _timesteps(border, family)
    _memory(border)
    _samples(border)
    border.assume(DEFAULTS)
    return border.finish(SOURCE, UNSUPPORTED, NEEDLESS, USUAL)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The first process as paths; of several datasets the first goes without a number."""
    config = values.get("config")
    processes = config.get("process") if isinstance(config, dict) else None
    if not isinstance(processes, list) or not processes or not isinstance(processes[0], dict):
        raise Unfit("it has no config.process to read.")
    found = {f"process[{index}]": "another process" for index in range(1, len(processes))}
    for key, value in processes[0].items():
        name = str(key)
        if name == "datasets" and isinstance(value, list):
            for index, dataset in enumerate(value):
                found |= _paths("datasets" if index == 0 else f"datasets[{index}]", dataset)
        elif name != "logging" and name != "type":
            found |= _paths(name, value)
    if processes[0].get("type") not in ("sd_trainer", "ui_trainer", "diffusion_trainer", None):
        found["process.type"] = processes[0]["type"]
    return found


def _paths(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {path: each for key, inner in value.items() for path, each in _paths(f"{name}.{key}", inner).items()}


def _family(border: Border) -> str | None:
    # The page of that trainer writes a member behind a colon: zimage:turbo.
    architecture = str(border.get("model.arch", "")).partition(":")[0]
    flagged = next((family for flag, family in FLAGS.items() if border.get(flag) is True), "stable-diffusion")
    family = ARCHITECTURES.get(architecture) if architecture else flagged
    if family is None:
        border.leave("model.arch", "the studio has no such family; choose a base here.")
        border.leave("model.name_or_path", "its family is unknown here.")
        return None
    border.take_base("model.name_or_path", family, {})
    border.values.setdefault("model.base_model", shipped.named(f"{family}-style").base_model)
    return family


def _network(border: Border) -> None:
    for name in ("network.rank", "network.linear"):
        rank = border.read(name, whole)
        if rank and "lora.rank" not in border.values:
            border.take(name, "lora.rank", rank)
        elif rank:
            border.leave(name, "network.rank goes before it.", matters=False)
    for name in ("network.linear_alpha", "network.alpha"):
        alpha = border.read(name, number)
        if alpha and "lora.alpha" not in border.values:
            border.take(name, "lora.alpha", float(alpha))
        elif border.said(name):
            border.leave(name, "network.linear_alpha goes before it.", matters=False)
    if border.values.get("lora.method") != "lokr":
        for name in ("network.lokr_full_rank", "network.lokr_factor"):
            if border.said(name):
                border.leave(name, "it belongs to lokr.", matters=False)


def _sizes(border: Border) -> None:
    """Several sizes teach there; here one does, the largest."""
    sizes = border.read("datasets.resolution", lambda value: [whole(each) for each in (value if isinstance(value, list) and value else [value])])
    if not sizes:
        return
    largest = round(max(sizes) / 8) * 8
    border.take("datasets.resolution", "dataset.resolution", largest)
    if len(set(sizes)) > 1:
        border.leave("datasets.resolution", f"one size teaches here, and the largest, {largest}, was taken.")


def _steps(border: Border) -> None:
    """`gradient_accumulation_steps` (the older of two) counts every batch as a step there."""
    older, together = border.read("train.gradient_accumulation_steps", whole, 1), border.read("train.gradient_accumulation", whole, 1)
    steps = border.read("train.steps", whole, DEFAULTS["train.steps"][1])
    if older < 1:
        border.leave("train.gradient_accumulation_steps", "the studio does not add up a whole round; 1 is used.")
        older = 1
    for name, count in (("train.gradient_accumulation", together), ("train.gradient_accumulation_steps", older)):
        if count > 1:
            border.take(name, "training.gradient_accumulation_steps", count)
        elif border.said(name):
            border.leave(name, OFF, matters=False)
    if older > 1:
        border.take("train.steps", "training.max_train_steps", math.ceil(steps / older), f"{steps}, of which {older} make one step here")
    elif border.said("train.steps"):
        border.take("train.steps", "training.max_train_steps", steps)
    for name in ("sample.sample_every", "save.save_every"):
        every = border.read(name, whole)
        if every and "samples.every" not in border.values:
            border.take(name, "samples.every", every)


def _optimizer(border: Border) -> None:
    name = border.read("train.optimizer", word, "adamw").lower()
    if name not in OPTIMIZERS:
        border.leave("train.optimizer", "the studio has adamw, adamw8bit, prodigy and schedulefree; adamw is used, so check the learning rate.")
        border.values["training.optimizer"] = "adamw"
    elif border.said("train.optimizer"):
        border.take("train.optimizer", "training.optimizer", OPTIMIZERS[name])
    for field in ("train.unet_lr", "train.lr"):
        rate = border.read(field, number)
        if rate and "training.learning_rate" not in border.values:
            # Prodigy finds the strength itself; there a smaller rate than 0.1 counts as 1.
            rate, shown = (1.0, f"{rate:g}, which counts as 1 with prodigy") if name.startswith("prodigy") and rate < 0.1 else (rate, None)
            border.take(field, "training.learning_rate", rate, shown)
        elif rate:
            border.leave(field, "train.unet_lr goes before it.", matters=False)
    scheduler = border.read("train.lr_scheduler", word, "constant").lower()
    # Its restarting cosine starts anew after the last step, its linear one grows from a third instead of falling.
    known = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine", "cosine_with_restarts": "cosine"}
    if scheduler not in known:
        border.leave("train.lr_scheduler", "the studio has no counterpart of its kind; constant is used.")
        border.values["training.lr_scheduler"] = "constant"
    elif border.said("train.lr_scheduler"):
        border.take("train.lr_scheduler", "training.lr_scheduler", known[scheduler])
    warm_up = border.read("train.lr_scheduler_params.num_warmup_steps", whole)
    if scheduler == "constant_with_warmup":
        border.take("train.lr_scheduler_params.num_warmup_steps", "training.lr_warmup_steps", 1000 if warm_up is None else warm_up)


def _text_encoder(border: Border, family: str | None) -> None:
    learns = border.read("train.train_text_encoder", yes, False)
    if learns and family not in ("stable-diffusion", "sdxl", "flux"):
        border.leave("train.train_text_encoder", "the text encoders of this family do not learn here.")
    elif border.said("train.train_text_encoder"):
        border.take("train.train_text_encoder", "lora.text_encoder", learns)
        rate = border.read("train.text_encoder_lr", number) if learns else None
        shared = border.values.get("training.learning_rate", DEFAULTS["train.lr"][1])
        if learns:
            border.take("train.text_encoder_lr", "training.text_encoder_learning_rate", rate or shared, f"{rate or shared:g}")


def _timesteps(border: Border, family: str | None) -> None:
    if family is None or family in DISCRETE:
        if border.said("train.timestep_type"):
            border.leave("train.timestep_type", "it is for flows; this base has a fixed schedule.", matters=False)
        return
    kind = border.read("train.timestep_type", word, "sigmoid")
    if kind in TIMESTEPS:
        density, shift = TIMESTEPS[kind]
        border.take("train.timestep_type", "training.timestep_density", density, kind)
        border.take("train.timestep_type", "training.timestep_shift", shift, kind)
        if kind == "weighted":
            border.leave("train.timestep_type", "its noise levels are taken, all alike; how it weighs them is not.")
    elif kind in SHIFTED:
        border.take("train.timestep_type", "training.timestep_density", "uniform", kind)
    else:
        border.leave("train.timestep_type", f"the studio has the counterparts of {', '.join((*TIMESTEPS, *SHIFTED))}; the base's own is used.")


def _memory(border: Border) -> None:
    if border.read("model.quantize", yes, False):
        # Behind a bar it names weights that make up for the packing.
        kind = str(border.get("model.qtype", "qfloat8")).partition("|")[0].lower()
        border.take("model.quantize", "runtime.quantisation", PACKINGS.get(kind, "nf4"), f"true, {kind}")
        if kind not in PACKINGS:
            border.leave("model.qtype", "the studio has int8, fp8 and nf4; nf4 is used.")
    elif border.said("model.quantize"):
        border.leave("model.quantize", OFF, matters=False)
    for name in ("model.layer_offloading", "model.auto_memory", "network.layer_offloading"):
        if border.get(name) is True:
            border.take(name, "runtime.offload", True)
        elif border.said(name):
            border.leave(name, OFF, matters=False)
    if border.get("train.ema_config.use_ema") is True:
        border.take("train.ema_config.use_ema", "training.ema_decay", border.read("train.ema_config.ema_decay", number, 0.999))
    elif border.said("train.ema_config.use_ema"):
        border.leave("train.ema_config.use_ema", OFF, matters=False)


def _samples(border: Border) -> None:
    if border.get("train.disable_sampling") is True:
        border.take("train.disable_sampling", "samples.prompts", [])
        for name in ("sample.prompts", "sample.samples"):
            if border.said(name):
                border.leave(name, "sampling is switched off.", matters=False)
        return
    for name in ("sample.samples", "sample.prompts"):
        prompts = border.read(name, _prompts, [])
        if prompts and "samples.prompts" not in border.values:
            border.take(name, "samples.prompts", prompts[:MOST_PROMPTS], f"{len(prompts)} prompts")
            if len(prompts) > MOST_PROMPTS:
                border.leave(name, f"the film has {MOST_PROMPTS} rows at most; the first ones are taken.")


def _prompts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Unfit("a list of prompts is needed.")
    return [word(each.get("prompt", "") if isinstance(each, dict) else each) for each in value]
