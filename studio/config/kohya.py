"""Settings of kohya's trainers (sd-scripts and, for newer bases, musubi-tuner): TOML for training, for datasets, or both in one file.

What they do where a file says nothing was read in sd-scripts v0.10.1: rank 4, alpha 1, learning rate 2e-6, 1,600 steps, and text encoders learn
unless told not to.
"""

import math
from typing import Any

from studio import families
from studio.config import shipped
from studio.config.border import Border, Imported, Term, Unfit, number, one_of, optional, pairs, whole, word, yes
from studio.families.stable_diffusion import SD15, SD21

SOURCE = "kohya's sd-scripts"
MODULES = {
    "networks.lora_flux": "flux",
    "networks.lora_sd3": "sd3",
    "networks.lora_flux_2": "flux2",
    "networks.lora_qwen_image": "qwen-image",
    "networks.lora_zimage": "z-image",
    "networks.lora_krea2": "krea-2",
}
FOR_ANY_UNET = ("networks.lora", "networks.lora_fa", "networks.dylora", "networks.oft", "lycoris.kohya")
MUSUBI = ("networks.lora_flux_2", "networks.lora_qwen_image", "networks.lora_zimage", "networks.lora_krea2")
"""These never teach text encoders, and their flow shift is 1 unless said."""
FLOWS = ("flux", "sd3", "chroma", "flux2", "qwen-image", "z-image", "krea-2")
ALIASES = {
    "runwayml/stable-diffusion-v1-5": SD15.id,
    "stable-diffusion-v1-5": SD15.id,
    "stabilityai/stable-diffusion-2-1": SD21.id,
    "stabilityai/stable-diffusion-2-1-base": SD21.id,
}
OPTIMIZERS = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "pagedadamw8bit": "adamw8bit",
    "pagedadamw": "adamw",
    "pagedadamw32bit": "adamw",
    "prodigy": "prodigy",
    "adamwschedulefree": "schedulefree",
}
SCHEDULERS = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine", "linear": "linear"}
PRECISIONS = {"float": "float32", "fp16": "float16", "bf16": "bfloat16"}

TABLE = {
    "network_dim": Term("lora.rank", whole),
    "network_dropout": Term("lora.dropout", number),
    "train_batch_size": Term("training.train_batch_size", whole),
    "batch_size": Term("training.train_batch_size", whole),
    "gradient_accumulation_steps": Term("training.gradient_accumulation_steps", whole),
    "optimizer_type": Term("training.optimizer", one_of(OPTIMIZERS)),
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
    "mixed_precision": Term("runtime.dtype", one_of({"no": "float32", "bf16": "bfloat16"})),
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
    "min_snr_gamma": ("training.min_snr_gamma", None),
    "noise_offset": ("training.noise_offset", 0.0),
    "max_grad_norm": ("training.max_grad_norm", 1.0),
    "caption_dropout_rate": ("dataset.caption_dropout", 0.0),
}
SIGNS = (
    *("network_module", "network_dim", "network_alpha", "network_args", "optimizer_args", "unet_lr", "max_train_epochs", "train_data_dir"),
    *("dataset_config", "datasets", "enable_bucket", "caption_extension", "save_every_n_steps", "sample_every_n_steps", "save_every_n_epochs"),
)
"""No other trainer calls its settings so."""
TRAINING = (*DEFAULTS, "network_module", "unet_lr", "max_train_epochs", "pretrained_model_name_or_path", "dit", "optimizer_args")
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
    **dict.fromkeys(
        ("sample_sampler", "sample_at_first", "t5xxl_max_token_length", "max_token_length", "apply_t5_attn_mask", "use_safetensors"), OWN
    ),
    **dict.fromkeys(("lr_scheduler_num_cycles", "lr_scheduler_power", "sigmoid_scale", "v2", "v_parameterization", "model_type", "sdxl"), OWN),
    **dict.fromkeys(("network_train_unet_only", "weighting_scheme", "discrete_flow_shift", "training_shift", "logit_mean", "logit_std"), OWN),
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
    "network_weights": "bring that LoRA into the library and name it under Start from a LoRA.",
    "resume": "a training of another program cannot be gone on with.",
}

USUAL = {"max_timestep": 1000, "loss_type": "l2", "model_prediction_type": "raw", "guidance_scale": 1.0}


def recognises(values: dict[str, Any]) -> bool:
    return any(name in SIGNS for name in _flat(values)) or isinstance(values.get("datasets"), list)


def read(values: dict[str, Any], pictures: int = 0) -> Imported:
    """`pictures` turns epochs into steps; 0 where nobody knows how many there are."""
    border = Border(_flat(values))
    border.translate({name: term for name, term in TABLE.items() if name != "optimizer_type"})
    _resolution(border)
    _how_often(border)
    if any(border.get(name) is not None for name in TRAINING):
        family = _family(border)
        _network(border)
        _optimizer(border)
        _steps(border, pictures)
        _rates(border, family)
        _noise(border, family)
        _memory(border)
        border.assume(DEFAULTS)
    _validation(border, pictures)
    return border.finish(SOURCE, UNSUPPORTED, NEEDLESS, USUAL)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """All sections in one, as the trainer reads them; of several datasets the first, whose own settings go before those of [general]."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= value
        elif name != "datasets":
            found[name] = value
    datasets = values.get("datasets") or []
    if not isinstance(datasets, list) or not all(isinstance(each, dict) for each in datasets):
        return {**found, "datasets": datasets}
    for number_, dataset in enumerate(datasets):
        subsets = dataset.get("subsets") or []
        own = {name: value for name, value in dataset.items() if name != "subsets"}
        if not isinstance(subsets, list) or not all(isinstance(each, dict) for each in subsets):
            own["subsets"], subsets = subsets, []
        regularisation = [each for each in subsets if each.get("is_reg") is True]
        teaching = [each for each in subsets if each.get("is_reg") is not True]
        if number_ == 0:
            found |= own | (teaching[0] if teaching else {})
            if regularisation and regularisation[0].get("class_tokens"):
                found["class_tokens_of_regularisation"] = regularisation[0]["class_tokens"]
            others = [("subsets", index, each) for index, each in enumerate(teaching) if index]
        else:
            others = [("datasets", number_, own), *(("subsets", index, each) for index, each in enumerate(teaching))]
        for noun, index, table in others:
            found |= {f"{noun}[{index}].{name}": value for name, value in table.items() if name not in PICTURES_OF_A_FOLDER}
    return found


PICTURES_OF_A_FOLDER = ("image_dir", "image_directory", "cache_directory", "class_tokens", "caption_extension")


def _resolution(border: Border) -> None:
    asked = border.read("resolution", _sides)
    if asked:
        width, height = asked
        side = round(math.sqrt(width * height) / 8) * 8
        border.take("resolution", "dataset.resolution", side, str(side) if width == height else f"{width} x {height}, the area of {side} x {side}")


def _sides(value: Any) -> tuple[int, int]:
    """512, "512", "768,512" or [768, 512]."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    sides = [whole(part) for part in parts]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise Unfit("one or two sides in pixels are needed.")
    return sides[0], sides[-1]


def _how_often(border: Border) -> None:
    """Here every column of the film is saved, so one number says both."""
    for name in ("sample_every_n_steps", "save_every_n_steps"):
        every = border.read(name, whole)
        if every and "samples.every" not in border.values:
            border.take(name, "samples.every", every)
        elif every:
            border.leave(name, f"a LoRA is kept with every column of the film, each {border.values['samples.every']} steps.", matters=False)
    for name in ("sample_every_n_epochs", "save_every_n_epochs"):
        if border.said(name):
            border.leave(name, "the studio counts in steps; see Draw samples every.", matters=False)


def _family(border: Border) -> str:
    """Told by the network's module, else by the base; an SDXL file says so only between the lines."""
    module, base = border.get("network_module", ""), str(border.get("pretrained_model_name_or_path", border.get("dit", "")))
    known = families.of(ALIASES.get(base, base)) if "/" in base else None
    large = border.values.get("dataset.resolution", 512) >= 768
    if border.get("model_type") == "chroma":
        family = "chroma"
    elif module in MODULES:
        family = MODULES[module]
    elif known:
        family = known.name
    elif border.get("clip_g") is not None:
        family = "sd3"
    else:
        family = "sdxl" if not border.get("v2") and ("xl" in base.lower() or large) else "stable-diffusion"
    name = "dit" if border.get("dit") is not None and border.get("pretrained_model_name_or_path") is None else "pretrained_model_name_or_path"
    border.take_base(name, family, ALIASES)
    if "model.base_model" not in border.values:
        border.values["model.base_model"] = SD21.id if border.get("v2") else shipped.named(f"{family}-style").base_model
    return family


def _network(border: Border) -> None:
    module = border.get("network_module", "")
    arguments = border.read("network_args", pairs, {})
    algorithm = arguments.pop("algo", "lora").lower()
    dora = arguments.pop("dora_wd", "false").lower() in ("true", "1")
    if border.said("network_module"):
        method = "lokr" if algorithm == "lokr" or str(module).endswith("lokr") else "dora" if dora else "lora"
        usual = algorithm in ("lora", "locon", "lokr") and (module in FOR_ANY_UNET[:2] or module in MODULES or "lycoris" in str(module))
        if usual or str(module).endswith("lokr"):
            border.take("network_module", "lora.method", method)
        else:
            border.leave(
                "network_module", f"the studio has lora, dora and lokr, not {algorithm if 'lycoris' in str(module) else module}; lora is used."
            )
            border.values["lora.method"] = "lora"
    if border.said("network_args"):
        odd = ", ".join(f"{name}={value}" for name, value in arguments.items())
        if odd:
            border.leave("network_args", f"not taken: {odd}. The studio teaches attention and feed-forward alike.")
        else:
            border.take("network_args", "lora.method", border.values.get("lora.method", "lora"))
    alpha = border.read("network_alpha", number)
    if alpha == 0:
        # There, as here, no alpha means the rank.
        border.take("network_alpha", "lora.alpha", float(border.values.get("lora.rank", DEFAULTS["network_dim"][1])), "0, which is the rank")
    elif alpha is not None:
        border.take("network_alpha", "lora.alpha", alpha)


def _optimizer(border: Border) -> None:
    if border.get("use_8bit_adam") is True:
        border.take("use_8bit_adam", "training.optimizer", "adamw8bit")
    elif border.said("optimizer_type") and str(border.get("optimizer_type")).lower().rpartition(".")[2] in OPTIMIZERS:
        border.take("optimizer_type", "training.optimizer", OPTIMIZERS[str(border.get("optimizer_type")).lower().rpartition(".")[2]])
    elif border.get("optimizer_type"):
        border.leave("optimizer_type", "the studio has adamw, adamw8bit, prodigy and schedulefree; adamw is used, so check the learning rate.")
        border.values["training.optimizer"] = "adamw"
    arguments = border.read("optimizer_args", lambda value: pairs(value) if value else {}, {})
    decay = arguments.pop("weight_decay", None)
    if arguments:
        odd = ", ".join(f"{name}={value}" for name, value in arguments.items())
        border.leave("optimizer_args", f"not taken: {odd}.")
    if decay is not None:
        try:
            border.take("optimizer_args", "training.weight_decay", number(decay), f"weight_decay={decay}")
        except Unfit as error:
            border.leave("optimizer_args", f"weight_decay: {error}")
    elif border.said("optimizer_args"):
        border.leave("optimizer_args", "empty.", matters=False)
    _schedule(border)


def _schedule(border: Border) -> None:
    name = border.read("lr_scheduler", word, "constant").lower()
    cycles = border.read("lr_scheduler_num_cycles", whole, 1)
    # One cycle of the restarting cosine is the cosine, a polynomial of power 1 the line.
    meant = {"cosine_with_restarts": "cosine" if cycles <= 1 else "", "polynomial": "linear" if border.get("lr_scheduler_power", 1) == 1 else ""}
    found = SCHEDULERS.get(name) or meant.get(name)
    if found and border.said("lr_scheduler"):
        border.take("lr_scheduler", "training.lr_scheduler", found)
    elif border.said("lr_scheduler"):
        nearest = "cosine" if "cosine" in name else "constant"
        border.leave("lr_scheduler", f"the studio has constant, cosine and linear; {nearest} is used.")
        border.values["training.lr_scheduler"] = nearest


def _steps(border: Border, pictures: int) -> None:
    """Epochs go before steps, as there: one is all batches of all repeats, and accumulation makes one step of several."""
    name = "max_train_epochs" if border.said("max_train_epochs") else "epoch"
    epochs = border.read(name, whole)
    if epochs and not pictures:
        border.leave(name, "how many steps that is depends on the pictures; the suggested number is set.")
        if border.said("max_train_steps"):
            border.leave("max_train_steps", f"{name} goes before it.", matters=False)
    elif epochs:
        batch = border.values.get("training.train_batch_size", 1)
        together = border.values.get("training.gradient_accumulation_steps", 1)
        batches = math.ceil(pictures * border.values.get("dataset.repeats", 1) / batch)
        steps = epochs * math.ceil(batches / together)
        border.take(name, "training.max_train_steps", steps, f"{epochs}, with {pictures} pictures {steps:,} steps")
        # Repeats are in the number of steps now; here they matter only for rare shapes.
        if border.said("max_train_steps"):
            border.leave("max_train_steps", f"{name} goes before it.", matters=False)
    else:
        steps = border.read("max_train_steps", whole)
        if steps:
            border.take("max_train_steps", "training.max_train_steps", steps)
    warm_up = border.read("lr_warmup_steps", _share_or_steps)
    if warm_up is not None:
        total = border.values.get("training.max_train_steps", DEFAULTS["max_train_steps"][1])
        border.take("lr_warmup_steps", "training.lr_warmup_steps", int(warm_up * total) if 0 < warm_up < 1 else int(warm_up))


def _share_or_steps(value: Any) -> float:
    """100, 0.05 or "5%"."""
    if isinstance(value, str) and value.endswith("%"):
        return number(value[:-1]) / 100
    return number(value)


def _rates(border: Border, family: str) -> None:
    shared = border.read("learning_rate", number)
    own = border.read("unet_lr", number)
    for name, rate in (("unet_lr", own), ("learning_rate", shared)):
        if rate and "training.learning_rate" not in border.values:
            border.take(name, "training.learning_rate", rate)
        elif border.said(name):
            border.leave(name, "unet_lr goes before it." if rate else "0 would learn nothing.", matters=not rate)
    encoders = border.read("text_encoder_lr", lambda value: [number(each) for each in (value if isinstance(value, list) else [value])], [])
    able = next((bool(known.text_encoder_targets) for known in families.FAMILIES if known.name == family), False)
    module = border.get("network_module", "")
    learns = border.get("network_train_unet_only") is not True and module not in MUSUBI and (not encoders or any(encoders))
    if border.said("text_encoder_lr") and len(set(encoders)) > 1:
        border.leave("text_encoder_lr", f"the studio has one rate for all text encoders; {encoders[0]:g} is used.")
    elif border.said("text_encoder_lr"):
        border.leave("text_encoder_lr", "the text encoder does not learn.", matters=False) if not (learns and able) else None
    if not learns:
        border.values["lora.text_encoder"] = False
    elif able:
        rate = encoders[0] if encoders and encoders[0] else border.values.get("training.learning_rate", DEFAULTS["learning_rate"][1])
        border.take("text_encoder_lr", "training.text_encoder_learning_rate", rate, f"{rate:g}")
        border.take("network_train_unet_only", "lora.text_encoder", True, "false, so the text encoder learns too")
    elif family != "chroma":
        border.leave("network_train_unet_only", "not said, so its text encoders learnt too; those of this family do not learn here.")


def _noise(border: Border, family: str) -> None:
    """Which noise levels are practised, for the families that learn flows (flux_train_utils and sd3_train_utils of sd-scripts)."""
    if family not in FLOWS:
        return
    sampling = border.read("timestep_sampling", word, "sigma")
    usual_shift = 1.0 if border.get("network_module") in MUSUBI or family == "sd3" else 3.0
    name = "training_shift" if family == "sd3" else "discrete_flow_shift"
    shift = border.read(name, number, usual_shift)
    scheme = border.read("weighting_scheme", word, "uniform")
    meant = {
        "uniform": ("uniform", 1.0),
        "sigmoid": ("logit_normal", 1.0),
        "shift": ("logit_normal", shift),
        "flux_shift": ("logit_normal", None),
        "sigma": ("logit_normal" if scheme == "logit_normal" else "uniform", shift),
    }
    if sampling not in meant:
        border.leave("timestep_sampling", f"the studio has the counterparts of {', '.join(meant)}; the base's own is used.")
        return
    density, moved = meant[sampling]
    border.take("timestep_sampling", "training.timestep_density", density, sampling)
    if moved is not None:
        border.take(name, "training.timestep_shift", moved, f"{moved:g}")
    if sampling == "sigma" and scheme not in ("uniform", "none", "logit_normal"):
        border.leave("weighting_scheme", "the studio has uniform and logit_normal; uniform is used.")


def _memory(border: Border) -> None:
    for name in ("fp8_base", "fp8_base_unet", "fp8_scaled"):
        if border.get(name) is True:
            border.take(name, "runtime.quantisation", "fp8")
        elif border.said(name):
            border.leave(name, "switched off there as well.", matters=False)
    swapped = border.read("blocks_to_swap", whole)
    if swapped:
        border.take("blocks_to_swap", "runtime.offload", True, f"{swapped} blocks")
    elif border.said("blocks_to_swap"):
        border.leave("blocks_to_swap", "switched off there as well.", matters=False)


def _validation(border: Border, pictures: int) -> None:
    share = border.read("validation_split", number)
    if share and pictures:
        border.take("validation_split", "validation.pictures", max(1, round(pictures * share)), f"{share:g} of {pictures} pictures")
    elif share:
        border.leave("validation_split", "how many pictures that is depends on the dataset; see Pictures held back.")
