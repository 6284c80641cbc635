"""Settings of ostris' ai-toolkit: a YAML (or JSON) job whose first process trains. Its names are written here as paths, train.lr.

What it does where a file says nothing was read in its version of August 2026: rank 4, alpha 1, learning rate 1e-6, 1,000 steps, sigmoid timesteps.
"""

import math
from typing import Any

from studio import families
from studio.config import shipped_presets
from studio.config.foreign import ai_toolkit_names as there
from studio.config.foreign.border import OFF, Border, Imported, Unfit, number, whole, word, yes
from studio.config.foreign.learning import differing, leave_text_encoder_rate, take_optimizer, take_schedule

SOURCE = "ostris' ai-toolkit"
TRAINER = "ai-toolkit"
ARGUMENT = "train.optimizer_params."
WARM_UP = "train.lr_scheduler_params.num_warmup_steps"


def read(values: dict[str, Any], pictures: int = 0) -> Imported:
    """`pictures` is not needed: this trainer counts in steps."""
    border = Border(_flat(values))
    border.translate(there.TABLE)
    if border.get("process.type", there.TRAINERS[0]) not in there.TRAINERS:
        border.leave("process.type", "the studio trains LoRAs from pictures and captions, nothing else.")
    family = _family(border)
    _network(border)
    _sizes(border)
    _steps(border)
    _optimizer(border)
    _text_encoder(border, family)
    _timesteps(border, family)
    _memory(border)
    _samples(border)
    border.assume(there.DEFAULTS)
    return border.finish(SOURCE, there.UNSUPPORTED, there.NEEDLESS, there.USUAL)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The first process as paths; of several datasets the first goes without a number."""
    config = values.get("config")
    processes = config.get("process") if isinstance(config, dict) else None
    if not isinstance(processes, list) or not processes or not isinstance(processes[0], dict):
        raise Unfit("it has no config.process to read.")
    found = {f"process[{index}]": "another process" for index in range(1, len(processes))}
    found |= {"config.name": config.get("name"), "job": values.get("job"), **_paths("meta", values.get("meta"))}
    for key, value in processes[0].items():
        name = str(key)
        if name == "datasets" and isinstance(value, list):
            for index, dataset in enumerate(value):
                found |= _paths("datasets" if index == 0 else f"datasets[{index}]", dataset)
        else:
            found |= _paths(name if name != "type" else "process.type", value)
    return found


def _paths(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {path: each for key, inner in value.items() for path, each in _paths(f"{name}.{key}", inner).items()}


def _family(border: Border) -> str | None:
    # The page of that trainer writes a member behind a colon: zimage:turbo.
    architecture = str(border.get("model.arch", "")).partition(":")[0]
    flagged = next((family for flag, family in there.FLAGS.items() if border.get(flag) is True), "stable-diffusion")
    family = there.ARCHITECTURES.get(architecture) if architecture else flagged
    if family is None:
        border.leave("model.arch", "the studio has no such family; choose a base here.")
        border.leave("model.name_or_path", "its family is unknown here.")
        return None
    border.take_base("model.name_or_path", family, {})
    border.values.setdefault("model.base_model", shipped_presets.named(f"{family}-style").base_model)
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
    steps = border.read("train.steps", whole, there.DEFAULTS["train.steps"][1])
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
    given = {setting.removeprefix(ARGUMENT): value for setting, value in border.settings.items() if setting.startswith(ARGUMENT)}
    given.pop("weight_decay", None)
    arguments = there.OPTIMIZER_ARGUMENTS.get(name, {}) | given
    entry = take_optimizer(border, TRAINER, "train.optimizer", name, arguments)
    for argument, differs in differing(entry, arguments).items():
        if border.said(ARGUMENT + argument):
            used = f"{entry.name} has {argument}={entry.arguments[argument]}" if argument in entry.arguments else "its default is used"
            border.leave(ARGUMENT + argument, f"not taken; {used}." if differs else OFF, matters=differs)
    border.assume({f"{ARGUMENT}weight_decay": ("training.weight_decay", entry.weight_decay)})
    for field in ("train.unet_lr", "train.lr"):
        rate = border.read(field, number)
        if rate and "training.learning_rate" not in border.values:
            # There a rate below 0.1 counts as 1 for an optimizer that finds its own.
            rate, shown = (1.0, f"{rate:g}, which counts as 1 with {entry.name}") if entry.finds_rate and rate < 0.1 else (rate, None)
            border.take(field, "training.learning_rate", rate, shown)
        elif rate:
            border.leave(field, "train.unet_lr goes before it.", matters=False)
    scheduler = take_schedule(border, TRAINER, entry, "train.lr_scheduler", WARM_UP)
    warm_up = border.read(WARM_UP, whole)
    if scheduler == "constant_with_warmup":
        border.take(WARM_UP, "training.lr_warmup_steps", 1000 if warm_up is None else warm_up)


def _text_encoder(border: Border, family: str | None) -> None:
    learns = border.read("train.train_text_encoder", yes, False)
    if learns and not any(known.text_encoder_targets for known in families.FAMILIES if known.name == family):
        border.leave("train.train_text_encoder", "the text encoders of this family do not learn here.")
    elif border.said("train.train_text_encoder"):
        border.take("train.train_text_encoder", "lora.text_encoder", learns)
        if not learns or leave_text_encoder_rate(border, "train.text_encoder_lr"):
            return
        rate = border.read("train.text_encoder_lr", number) or border.values.get("training.learning_rate", there.DEFAULTS["train.lr"][1])
        border.take("train.text_encoder_lr", "training.text_encoder_learning_rate", rate, f"{rate:g}")


def _timesteps(border: Border, family: str | None) -> None:
    if family is None or family in there.DISCRETE:
        if border.said("train.timestep_type"):
            border.leave("train.timestep_type", "it is for flows; this base has a fixed schedule.", matters=False)
        return
    kind = border.read("train.timestep_type", word, "sigmoid")
    if kind in there.TIMESTEPS:
        density, shift = there.TIMESTEPS[kind]
        border.take("train.timestep_type", "training.timestep_density", density, kind)
        border.take("train.timestep_type", "training.timestep_shift", shift, kind)
        if kind == "weighted":
            border.leave("train.timestep_type", "its noise levels are taken, all alike; how it weighs them is not.")
    elif kind in there.SHIFTED:
        border.take("train.timestep_type", "training.timestep_density", "uniform", kind)
    else:
        border.leave(
            "train.timestep_type", f"the studio has the counterparts of {', '.join((*there.TIMESTEPS, *there.SHIFTED))}; the base's own is used."
        )


def _memory(border: Border) -> None:
    if border.read("model.quantize", yes, False):
        # Behind a bar it names weights that make up for the packing.
        kind = str(border.get("model.qtype", "qfloat8")).partition("|")[0].lower()
        border.take("model.quantize", "runtime.quantisation", there.PACKINGS.get(kind, "nf4"), f"true, {kind}")
        if kind not in there.PACKINGS:
            border.leave("model.qtype", "the studio has int8, fp8 and nf4; nf4 is used.")
    elif border.said("model.quantize"):
        border.leave("model.quantize", OFF, matters=False)
    for name in ("model.layer_offloading", "model.auto_memory", "network.layer_offloading"):
        if border.get(name) is True:
            border.take(name, "runtime.offload", True)
        elif border.said(name):
            border.leave(name, OFF, matters=False)
    if border.get("train.ema_config.use_ema") is True:
        decay = border.read("train.ema_config.ema_decay", number, 0.999)
        border.take("train.ema_config.use_ema", "training.ema_decay", decay, f"true, decay {decay:g}")
    elif border.said("train.ema_config.use_ema"):
        border.leave("train.ema_config.use_ema", OFF, matters=False)
    border.used("train.ema_config.ema_decay")


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
            border.take(name, "samples.prompts", prompts[: there.MOST_PROMPTS], f"{len(prompts)} prompts")
            if len(prompts) > there.MOST_PROMPTS:
                border.leave(name, f"the film has {there.MOST_PROMPTS} rows at most; the first ones are taken.")


def _prompts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Unfit("a list of prompts is needed.")
    return [word(each.get("prompt", "") if isinstance(each, dict) else each) for each in value]
