"""Settings of kohya's trainers (sd-scripts and, for newer bases, musubi-tuner): TOML for training, for datasets, or both in one file.

What they do where a file says nothing was read in sd-scripts v0.10.1: rank 4, alpha 1, learning rate 2e-6, 1,600 steps, and text encoders learn
unless told not to.
"""

import math
from typing import Any

from studio import families
from studio.config import optimizers, shipped_presets
from studio.config.foreign import kohya_names as there
from studio.config.foreign.border import Border, Imported, Unfit, literal, number, pairs, whole, word
from studio.config.foreign.learning import differing, leave_text_encoder_rate, take_optimizer, take_schedule
from studio.families.stable_diffusion import SD21

SOURCE = "kohya's sd-scripts"
TRAINER = "kohya"


def recognises(values: dict[str, Any]) -> bool:
    return any(name in there.SIGNS for name in _flat(values)) or isinstance(values.get("datasets"), list)


def read(values: dict[str, Any], pictures: int = 0) -> Imported:
    """`pictures` turns epochs into steps; 0 where nobody knows how many there are."""
    border = Border(_flat(values))
    border.translate(there.TABLE)
    _resolution(border)
    _how_often(border)
    if any(border.get(name) is not None for name in there.TRAINING):
        family = _family(border)
        _network(border)
        _optimizer(border)
        defaults = _steps(border, pictures)
        _rates(border, family)
        _noise(border, family)
        _memory(border)
        border.assume(defaults)
    _validation(border, pictures)
    return border.finish(SOURCE, there.UNSUPPORTED, there.NEEDLESS, there.USUAL)


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
            found |= {f"{noun}[{index}].{name}": value for name, value in table.items() if name not in there.PICTURES_OF_A_FOLDER}
    return found


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
    known = families.of(there.ALIASES.get(base, base)) if "/" in base else None
    large = border.values.get("dataset.resolution", 512) >= 768
    if border.get("model_type") == "chroma":
        family = "chroma"
    elif module in there.MODULES:
        family = there.MODULES[module]
    elif known:
        family = known.name
    elif border.get("clip_g") is not None:
        family = "sd3"
    else:
        family = "sdxl" if not border.get("v2") and ("xl" in base.lower() or large) else "stable-diffusion"
    name = "dit" if border.get("dit") is not None and border.get("pretrained_model_name_or_path") is None else "pretrained_model_name_or_path"
    border.take_base(name, family, there.ALIASES)
    if "model.base_model" not in border.values:
        border.values["model.base_model"] = SD21.id if border.get("v2") else shipped_presets.named(f"{family}-style").base_model
    return family


def _network(border: Border) -> None:
    module = str(border.get("network_module", ""))
    arguments = border.read("network_args", lambda value: pairs(value) if value else {}, {})
    algorithm = arguments.pop("algo", module.rpartition(".")[2]).lower()
    dora = arguments.pop("dora_wd", "false").lower() in ("true", "1")
    plain = module in there.MODULES or algorithm in there.PLAIN
    method = "lokr" if algorithm == "lokr" else "dora" if dora and plain else "lora"
    if border.said("network_module"):
        if plain or method == "lokr":
            border.take("network_module", "lora.method", method, f"{module}, {algorithm}" if "lycoris" in module else module)
        else:
            border.leave("network_module", f"the studio has lora, dora and lokr, not {algorithm}; lora is used.")
            border.values["lora.method"] = "lora"
    if arguments:
        odd = ", ".join(f"{name}={value}" for name, value in arguments.items())
        border.leave("network_args", f"not taken: {odd}. The studio teaches attention and feed-forward alike.")
    border.used("network_args")
    alpha = border.read("network_alpha", number)
    if alpha == 0:
        # There, as here, no alpha means the rank.
        border.take("network_alpha", "lora.alpha", float(border.values.get("lora.rank", there.DEFAULTS["network_dim"][1])), "0, which is the rank")
    elif alpha is not None:
        border.take("network_alpha", "lora.alpha", float(alpha))


def _optimizer(border: Border) -> None:
    asked = border.read("optimizer_type", word, "").lower().rpartition(".")[2]
    setting = "optimizer_type"
    for flag, name in there.OPTIMIZER_FLAGS.items():
        if border.get(flag) is True:
            setting, asked = flag, name
    given = border.read("optimizer_args", lambda value: pairs(value) if value else {}, {})
    decay = given.pop("weight_decay", None)
    arguments = there.OPTIMIZER_ARGUMENTS.get(asked, {}) | {name: literal(value) for name, value in given.items()}
    entry = take_optimizer(border, TRAINER, setting, asked, arguments) if asked else optimizers.get(there.DEFAULTS["optimizer_type"][1])
    border.used("optimizer_type", *there.OPTIMIZER_FLAGS)
    if decay is not None:
        try:
            border.take("optimizer_args", "training.weight_decay", number(decay), f"weight_decay={decay}")
        except Unfit as error:
            border.leave("optimizer_args", f"weight_decay: {error}")
    odd = [name for name, differs in differing(entry, arguments).items() if differs]
    if odd:
        border.leave("optimizer_args", f"not taken: {', '.join(f'{name}={given.get(name, arguments[name])}' for name in odd)}.")
    border.used("optimizer_args")
    border.assume({"weight_decay": ("training.weight_decay", entry.weight_decay)})
    take_schedule(border, TRAINER, entry, "lr_scheduler", "lr_warmup_steps")


def _steps(border: Border, pictures: int) -> dict[str, tuple[str, Any]]:
    """Epochs go before steps, as there: one is all batches of all repeats, and accumulation makes one step of several. Returns what is assumed
    of the rest: not the usual number of steps where epochs could not be counted."""
    defaults = dict(there.DEFAULTS)
    epochs, steps = border.read("max_train_epochs", whole), border.read("max_train_steps", whole)
    if epochs and not pictures:
        border.leave("max_train_epochs", "how many steps that is depends on the pictures; the suggested number is set.")
        del defaults["max_train_steps"]
    elif epochs:
        batch, together = (border.values.get(f"training.{name}", 1) for name in ("train_batch_size", "gradient_accumulation_steps"))
        batches = math.ceil(pictures * border.values.get("dataset.repeats", 1) / batch)
        counted = epochs * math.ceil(batches / together)
        border.take("max_train_epochs", "training.max_train_steps", counted, f"{epochs}, with {pictures} pictures {counted:,} steps")
    elif steps:
        border.take("max_train_steps", "training.max_train_steps", steps)
    if epochs and border.said("max_train_steps"):
        border.leave("max_train_steps", "max_train_epochs goes before it.", matters=False)
    warm_up = border.read("lr_warmup_steps", _share_or_steps)
    if warm_up is not None:
        total = border.values.get("training.max_train_steps", there.DEFAULTS["max_train_steps"][1])
        border.take("lr_warmup_steps", "training.lr_warmup_steps", int(warm_up * total) if 0 < warm_up < 1 else int(warm_up))
    return defaults


def _share_or_steps(value: Any) -> float:
    """100, 0.05 or "5%"."""
    if isinstance(value, str) and value.endswith("%"):
        return number(value[:-1]) / 100
    return number(value)


def _rates(border: Border, family: str) -> None:
    rates = {name: border.read(name, number) for name in ("unet_lr", "learning_rate")}
    for name, rate in rates.items():
        if rate and "training.learning_rate" not in border.values:
            border.take(name, "training.learning_rate", rate)
        elif border.said(name):
            border.leave(name, "unet_lr goes before it." if rate else "0 would learn nothing.", matters=not rate)
    encoders = border.read("text_encoder_lr", lambda value: [number(each) for each in (value if isinstance(value, list) else [value])], [])
    asked = border.get("network_train_unet_only") is not True and border.get("network_module", "") not in there.MUSUBI
    learns = asked and (not encoders or any(encoders)) and family not in there.NO_CLIP
    able = any(known.text_encoder_targets for known in families.FAMILIES if known.name == family)
    if learns and able and not leave_text_encoder_rate(border, "text_encoder_lr"):
        rate = next((each for each in encoders if each), rates["learning_rate"] or there.DEFAULTS["learning_rate"][1])
        border.take("text_encoder_lr", "training.text_encoder_learning_rate", rate, f"{rate:g}")
        if len(set(encoders)) > 1:
            border.leave("text_encoder_lr", f"the studio has one rate for all text encoders; {rate:g} is used.")
    if learns and able:
        border.take("network_train_unet_only", "lora.text_encoder", True, "false, so the text encoder learns too")
    elif learns:
        border.leave("network_train_unet_only", "its text encoders learnt too; those of this family do not learn here.")
    else:
        border.values["lora.text_encoder"] = False
        border.used("text_encoder_lr", "network_train_unet_only")


def _noise(border: Border, family: str) -> None:
    """Which noise levels are practised, for the families that learn flows (flux_train_utils and sd3_train_utils of sd-scripts)."""
    if family not in there.FLOWS:
        return
    sampling = border.read("timestep_sampling", word, "sigma")
    usual_shift = 1.0 if border.get("network_module") in there.MUSUBI or family == "sd3" else 3.0
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
