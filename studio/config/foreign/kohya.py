"""Settings of kohya's trainers (sd-scripts and, for newer bases, musubi-tuner): TOML for training, for datasets, or both in one file.

Their defaults are those of sd-scripts v0.10.1: rank 4, alpha 1, learning rate 2e-6, 1,600 steps, text encoders trained.
"""

import math
from typing import Any

from studio import families
from studio.config import optimizers, shipped_presets
from studio.config.foreign import kohya_names as names
from studio.config.foreign.learning import differing, leave_text_encoder_rate, skip_argument, take_optimizer, take_schedule
from studio.config.foreign.reader import OFF, Imported, SettingsReader, Unsupported, integer, literal, number, pairs, text
from studio.families.stable_diffusion import SD21

SOURCE = "kohya's sd-scripts"
TRAINER = "kohya"


def is_kohya(values: dict[str, Any]) -> bool:
    return any(name in names.SIGNS for name in _flat(values)) or isinstance(values.get("datasets"), list)


def read(values: dict[str, Any], image_count: int = 0) -> Imported:
    """`image_count` is the number of images, which converts epochs to steps; 0 if it is unknown."""
    reader = SettingsReader(_flat(values))
    reader.translate(names.TABLE)
    _resolution(reader)
    _intervals(reader)
    if any(reader.get(name) is not None for name in names.TRAINING):
        family = _family(reader)
        _network(reader)
        _optimizer(reader)
        defaults = _steps(reader, image_count)
        _rates(reader, family)
        _noise(reader, family)
        _memory(reader)
        reader.apply_defaults(defaults)
    _validation(reader, image_count)
    return reader.finish(SOURCE, names.UNSUPPORTED, names.UNNEEDED, names.USUAL)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """All sections merged into one table, as the trainer does. Of several datasets the first is used; its settings override [general]."""
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
        training = [each for each in subsets if each.get("is_reg") is not True]
        if number_ == 0:
            found |= own | (training[0] if training else {})
            if regularisation and regularisation[0].get("class_tokens"):
                found["class_tokens_of_regularisation"] = regularisation[0]["class_tokens"]
            others = [("subsets", index, each) for index, each in enumerate(training) if index]
        else:
            others = [("datasets", number_, own), *(("subsets", index, each) for index, each in enumerate(training))]
        for noun, index, table in others:
            found |= {f"{noun}[{index}].{name}": value for name, value in table.items() if name not in names.DATASET_PATHS}
    return found


def _resolution(reader: SettingsReader) -> None:
    sides = reader.read("resolution", _sides)
    if sides:
        width, height = sides
        side = round(math.sqrt(width * height) / 8) * 8
        reader.set("resolution", "dataset.resolution", side, str(side) if width == height else f"{width} x {height}, the area of {side} x {side}")


def _sides(value: Any) -> tuple[int, int]:
    """512, "512", "768,512" or [768, 512]."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    sides = [integer(part) for part in parts]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise Unsupported("it must be one or two sides in pixels.")
    return sides[0], sides[-1]


def _intervals(reader: SettingsReader) -> None:
    """Sample and save intervals are one setting here: a LoRA is saved with every column of the sample grid."""
    for name in ("sample_every_n_steps", "save_every_n_steps"):
        every = reader.read(name, integer)
        if every and "samples.every" not in reader.values:
            reader.set(name, "samples.every", every)
        elif every:
            reader.skip(name, f"a LoRA is saved with every column of the sample grid, every {reader.values['samples.every']} steps.", matters=False)
    for name in ("sample_every_n_epochs", "save_every_n_epochs"):
        if reader.has(name):
            reader.skip(name, "the studio counts in steps; see Sample every N steps.", matters=False)


def _family(reader: SettingsReader) -> str:
    """The family, from the network module or the base; SDXL can only be guessed, from the base's name or the resolution."""
    module, base = reader.get("network_module", ""), str(reader.get("pretrained_model_name_or_path", reader.get("dit", "")))
    known = families.detect(names.ALIASES.get(base, base)) if "/" in base else None
    large = reader.values.get("dataset.resolution", 512) >= 768
    if reader.get("model_type") == "chroma":
        family = "chroma"
    elif module in names.MODULES:
        family = names.MODULES[module]
    elif known:
        family = known.name
    elif reader.get("clip_g") is not None:
        family = "sd3"
    else:
        family = "sdxl" if not reader.get("v2") and ("xl" in base.lower() or large) else "stable-diffusion"
    name = "dit" if reader.get("dit") is not None and reader.get("pretrained_model_name_or_path") is None else "pretrained_model_name_or_path"
    reader.set_base(name, family, names.ALIASES)
    if "model.base_model" not in reader.values:
        reader.values["model.base_model"] = SD21.id if reader.get("v2") else shipped_presets.get(f"{family}-style").base_model
    return family


def _network(reader: SettingsReader) -> None:
    module = str(reader.get("network_module", ""))
    arguments = reader.read("network_args", lambda value: pairs(value) if value else {}, {})
    algorithm = arguments.pop("algo", module.rpartition(".")[2]).lower()
    dora = arguments.pop("dora_wd", "false").lower() in ("true", "1")
    plain = module in names.MODULES or algorithm in names.PLAIN
    method = "lokr" if algorithm == "lokr" else "dora" if dora and plain else "lora"
    if reader.has("network_module"):
        if plain or method == "lokr":
            reader.set("network_module", "lora.method", method, f"{module}, {algorithm}" if "lycoris" in module else module)
        else:
            reader.skip("network_module", f"the studio has lora, dora and lokr, not {algorithm}; lora is used.")
            reader.values["lora.method"] = "lora"
    if arguments:
        odd = ", ".join(f"{name}={value}" for name, value in arguments.items())
        reader.skip("network_args", f"not imported: {odd}. The studio trains attention and feed-forward layers alike.")
    reader.mark_used("network_args")
    alpha = reader.read("network_alpha", number)
    if alpha == 0:
        # In both trainers a missing alpha equals the rank.
        rank: float = reader.values.get("lora.rank", names.DEFAULTS["network_dim"][1])
        reader.set("network_alpha", "lora.alpha", float(rank), "0, which means the rank")
    elif alpha is not None:
        reader.set("network_alpha", "lora.alpha", float(alpha))


def _optimizer(reader: SettingsReader) -> None:
    asked = reader.read("optimizer_type", text, "").lower().rpartition(".")[2]
    setting = "optimizer_type"
    for flag, name in names.OPTIMIZER_FLAGS.items():
        if reader.get(flag) is True:
            setting, asked = flag, name
    given = reader.read("optimizer_args", lambda value: pairs(value) if value else {}, {})
    decay = given.pop("weight_decay", None)
    arguments = names.OPTIMIZER_ARGUMENTS.get(asked, {}) | {name: literal(value) for name, value in given.items()}
    entry = take_optimizer(reader, TRAINER, setting, asked, arguments) if asked else optimizers.get(names.DEFAULTS["optimizer_type"][1])
    reader.mark_used("optimizer_type", *names.OPTIMIZER_FLAGS)
    if decay is not None:
        try:
            reader.set("optimizer_args", "training.weight_decay", number(decay), f"weight_decay={decay}")
        except Unsupported as error:
            reader.skip("optimizer_args", f"weight_decay: {error}")
    for name, differs in differing(entry, arguments).items():
        if differs:
            shown = f"{name}={given.get(name, arguments[name])}"
            skip_argument(reader, entry, "optimizer_args", shown, name, default=name not in given)
    reader.mark_used("optimizer_args")
    reader.apply_defaults({"weight_decay": ("training.weight_decay", entry.foreign_weight_decay)})
    take_schedule(reader, TRAINER, entry, "lr_scheduler", "lr_warmup_steps")


def _steps(reader: SettingsReader, image_count: int) -> dict[str, tuple[str, Any]]:
    """Epochs override steps, as in sd-scripts: an epoch is all batches of all repeats, and accumulation combines several into a step. Returns
    the defaults for the other settings, without the default number of steps if epochs could not be converted."""
    defaults = dict(names.DEFAULTS)
    epochs, steps = reader.read("max_train_epochs", integer), reader.read("max_train_steps", integer)
    if epochs and not image_count:
        reader.skip("max_train_epochs", "the number of steps depends on the dataset; the suggested number is used.")
        del defaults["max_train_steps"]
    elif epochs:
        batch, accumulation = (reader.values.get(f"training.{name}", 1) for name in ("train_batch_size", "gradient_accumulation_steps"))
        batches = math.ceil(image_count * reader.values.get("dataset.repeats", 1) / batch)
        total = epochs * math.ceil(batches / accumulation)
        reader.set("max_train_epochs", "training.max_train_steps", total, f"{epochs}, with {image_count} images {total:,} steps")
    elif steps:
        reader.set("max_train_steps", "training.max_train_steps", steps)
    if epochs and reader.has("max_train_steps"):
        reader.skip("max_train_steps", "max_train_epochs takes precedence.", matters=False)
    warm_up = reader.read("lr_warmup_steps", _share_or_steps)
    if warm_up is not None:
        total = reader.values.get("training.max_train_steps", names.DEFAULTS["max_train_steps"][1])
        reader.set("lr_warmup_steps", "training.lr_warmup_steps", int(warm_up * total) if 0 < warm_up < 1 else int(warm_up))
    return defaults


def _share_or_steps(value: Any) -> float:
    """100, 0.05 or "5%"."""
    if isinstance(value, str) and value.endswith("%"):
        return number(value[:-1]) / 100
    return number(value)


def _rates(reader: SettingsReader, family: str) -> None:
    rates = {name: reader.read(name, number) for name in ("unet_lr", "learning_rate")}
    for name, rate in rates.items():
        if rate and "training.learning_rate" not in reader.values:
            reader.set(name, "training.learning_rate", rate)
        elif reader.has(name):
            reader.skip(name, "unet_lr takes precedence." if rate else "0 would train nothing.", matters=not rate)
    encoders = reader.read("text_encoder_lr", lambda value: [number(each) for each in (value if isinstance(value, list) else [value])], [])
    requested = reader.get("network_train_unet_only") is not True and reader.get("network_module", "") not in names.MUSUBI
    trains = requested and (not encoders or any(encoders)) and family not in names.NO_CLIP
    able = any(known.text_encoder_targets for known in families.FAMILIES if known.name == family)
    if trains and able and not leave_text_encoder_rate(reader, "text_encoder_lr"):
        rate = next((each for each in encoders if each), rates["learning_rate"] or names.DEFAULTS["learning_rate"][1])
        reader.set("text_encoder_lr", "training.text_encoder_learning_rate", rate, f"{rate:g}")
        if len(set(encoders)) > 1:
            reader.skip("text_encoder_lr", f"the studio has one rate for all text encoders; {rate:g} is used.")
    if trains and able:
        reader.set("network_train_unet_only", "lora.text_encoder", True, "false, so the text encoder trains too")
    elif trains:
        reader.skip("network_train_unet_only", "its text encoders learnt too; those of this family do not learn here.")
    else:
        reader.values["lora.text_encoder"] = False
        reader.mark_used("text_encoder_lr", "network_train_unet_only")


def _noise(reader: SettingsReader, family: str) -> None:
    """Timestep sampling of flow-matching families (flux_train_utils and sd3_train_utils of sd-scripts)."""
    if family not in names.FLOWS:
        return
    sampling = reader.read("timestep_sampling", text, "sigma")
    usual_shift = 1.0 if reader.get("network_module") in names.MUSUBI or family == "sd3" else 3.0
    name = "training_shift" if family == "sd3" else "discrete_flow_shift"
    shift = reader.read(name, number, usual_shift)
    scheme = reader.read("weighting_scheme", text, "uniform")
    meant = {
        "uniform": ("uniform", 1.0),
        "sigmoid": ("logit_normal", 1.0),
        "shift": ("logit_normal", shift),
        "flux_shift": ("logit_normal", None),
        "sigma": ("logit_normal" if scheme == "logit_normal" else "uniform", shift),
    }
    if sampling not in meant:
        reader.skip("timestep_sampling", f"the studio supports {', '.join(meant)}; the base's default is used.")
        return
    density, moved = meant[sampling]
    reader.set("timestep_sampling", "training.timestep_density", density, sampling)
    if moved is not None:
        reader.set(name, "training.timestep_shift", moved, f"{moved:g}")
    if sampling == "sigma" and scheme not in ("uniform", "none", "logit_normal"):
        reader.skip("weighting_scheme", "the studio has uniform and logit_normal; uniform is used.")


def _memory(reader: SettingsReader) -> None:
    for name in ("fp8_base", "fp8_base_unet", "fp8_scaled"):
        if reader.get(name) is True:
            reader.set(name, "runtime.quantisation", "fp8")
        elif reader.has(name):
            reader.skip(name, OFF, matters=False)
    swapped = reader.read("blocks_to_swap", integer)
    if swapped:
        reader.set("blocks_to_swap", "runtime.offload", True, f"{swapped} blocks")
    elif reader.has("blocks_to_swap"):
        reader.skip("blocks_to_swap", OFF, matters=False)


def _validation(reader: SettingsReader, image_count: int) -> None:
    share = reader.read("validation_split", number)
    if share and image_count:
        reader.set("validation_split", "validation.pictures", max(1, round(image_count * share)), f"{share:g} of {image_count} images")
    elif share:
        reader.skip("validation_split", "the number of images depends on the dataset; see Validation images.")
