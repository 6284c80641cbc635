"""Settings of ostris' ai-toolkit: a YAML (or JSON) job whose first process trains. Setting names are written as paths, such as train.lr.

Its defaults are those of its source of August 2026: rank 4, alpha 1, learning rate 1e-6, 1,000 steps, sigmoid timesteps.
"""

import math
from typing import Any

from studio import families
from studio.config import shipped_presets
from studio.config.foreign import ai_toolkit_names as names
from studio.config.foreign.learning import differing, leave_text_encoder_rate, skip_argument, take_optimizer, take_schedule
from studio.config.foreign.reader import OFF, Imported, SettingsReader, Unsupported, boolean, integer, number, short, text

SOURCE = "ostris' ai-toolkit"
TRAINER = "ai-toolkit"
ARGUMENT = "train.optimizer_params."
WARM_UP = "train.lr_scheduler_params.num_warmup_steps"


def read(values: dict[str, Any], image_count: int = 0) -> Imported:
    """`image_count` is unused: this trainer counts in steps."""
    reader = SettingsReader(_flat(values))
    reader.translate(names.TABLE)
    if reader.get("process.type", names.TRAINERS[0]) not in names.TRAINERS:
        reader.skip("process.type", "the studio only trains LoRAs on images and captions.")
    family = _family(reader)
    _network(reader)
    _sizes(reader)
    _steps(reader)
    _optimizer(reader)
    _text_encoder(reader, family)
    _timesteps(reader, family)
    _memory(reader)
    _samples(reader)
    reader.apply_defaults(names.DEFAULTS)
    return reader.finish(SOURCE, names.UNSUPPORTED, names.UNNEEDED, names.USUAL)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The first process as a flat table of paths; only the second and later datasets are numbered."""
    config = values.get("config")
    processes = config.get("process") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(processes, list) or not processes or not isinstance(processes[0], dict):
        raise Unsupported("it has no config.process.")
    found: dict[str, Any] = {f"process[{index}]": "another process" for index in range(1, len(processes))}
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


def _family(reader: SettingsReader) -> str | None:
    # That trainer's UI appends the variant after a colon: zimage:turbo.
    architecture = str(reader.get("model.arch", "")).partition(":")[0]
    flagged = next((family for flag, family in names.FLAGS.items() if reader.get(flag) is True), "stable-diffusion")
    family = names.ARCHITECTURES.get(architecture) if architecture else flagged
    if family is None:
        reader.skip("model.arch", "the studio does not support this family; choose a base here.")
        reader.skip("model.name_or_path", "its family is not supported.")
        return None
    reader.set_base("model.name_or_path", family, {})
    reader.values.setdefault("model.base_model", shipped_presets.get(f"{family}-style").base_model)
    return family


def _network(reader: SettingsReader) -> None:
    for name in ("network.rank", "network.linear"):
        rank = reader.read(name, integer)
        if rank and "lora.rank" not in reader.values:
            reader.set(name, "lora.rank", rank)
        elif rank:
            reader.skip(name, "network.rank takes precedence.", matters=False)
    for name in ("network.linear_alpha", "network.alpha"):
        alpha = reader.read(name, number)
        if alpha and "lora.alpha" not in reader.values:
            reader.set(name, "lora.alpha", float(alpha))
        elif reader.has(name):
            reader.skip(name, "network.linear_alpha takes precedence.", matters=False)
    if reader.values.get("lora.method") != "lokr":
        for name in ("network.lokr_full_rank", "network.lokr_factor"):
            if reader.has(name):
                reader.skip(name, "it only affects lokr.", matters=False)


def _sizes(reader: SettingsReader) -> None:
    """ai-toolkit trains at several resolutions; the studio uses the largest one."""
    sizes = reader.read("datasets.resolution", lambda value: [integer(each) for each in (value if isinstance(value, list) and value else [value])])
    if not sizes:
        return
    largest = round(max(sizes) / 8) * 8
    reader.set("datasets.resolution", "dataset.resolution", largest)
    if len(set(sizes)) > 1:
        reader.skip("datasets.resolution", f"the studio trains at one resolution; the largest, {largest}, is used.")


def _steps(reader: SettingsReader) -> None:
    """With `gradient_accumulation_steps` (the older of two settings) ai-toolkit counts every batch as a step."""
    older, accumulation = reader.read("train.gradient_accumulation_steps", integer, 1), reader.read("train.gradient_accumulation", integer, 1)
    steps = reader.read("train.steps", integer, names.DEFAULTS["train.steps"][1])
    if older < 1:
        reader.skip("train.gradient_accumulation_steps", "the studio cannot accumulate over a whole epoch; 1 is used.")
        older = 1
    for name, count in (("train.gradient_accumulation", accumulation), ("train.gradient_accumulation_steps", older)):
        if count > 1:
            reader.set(name, "training.gradient_accumulation_steps", count)
        elif reader.has(name):
            reader.skip(name, OFF, matters=False)
    if older > 1:
        reader.set("train.steps", "training.max_train_steps", math.ceil(steps / older), f"{steps}, of which {older} are one step here")
    elif reader.has("train.steps"):
        reader.set("train.steps", "training.max_train_steps", steps)
    for name in ("sample.sample_every", "save.save_every"):
        every = reader.read(name, integer)
        if every and "samples.every" not in reader.values:
            reader.set(name, "samples.every", every)


def _optimizer(reader: SettingsReader) -> None:
    name = reader.read("train.optimizer", text, "adamw").lower()
    given = {
        setting.removeprefix(ARGUMENT): value for setting, value in reader.settings.items() if setting.startswith(ARGUMENT) and value is not None
    }
    arguments = names.OPTIMIZER_ARGUMENTS.get(name, {}) | given
    decay = arguments.pop("weight_decay", None)
    entry = take_optimizer(reader, TRAINER, "train.optimizer", name, arguments)
    for argument, differs in differing(entry, arguments).items():
        if differs:
            skip_argument(reader, entry, ARGUMENT + argument, short(arguments[argument]), argument, default=argument not in given)
        elif argument in given:
            reader.skip(ARGUMENT + argument, OFF, matters=False)
    reader.apply_defaults({f"{ARGUMENT}weight_decay": ("training.weight_decay", entry.foreign_weight_decay if decay is None else decay)})
    for field in ("train.unet_lr", "train.lr"):
        rate = reader.read(field, number)
        if rate and "training.learning_rate" not in reader.values:
            # There a rate below 0.1 counts as 1 for an optimizer that finds its own.
            rate, shown = (1.0, f"{rate:g}, which counts as 1 with {entry.name}") if entry.finds_rate and rate < 0.1 else (rate, None)
            reader.set(field, "training.learning_rate", rate, shown)
        elif rate:
            reader.skip(field, "train.unet_lr goes before it.", matters=False)
    scheduler = take_schedule(reader, TRAINER, entry, "train.lr_scheduler", WARM_UP)
    warm_up = reader.read(WARM_UP, integer)
    if scheduler == "constant_with_warmup":
        reader.set(WARM_UP, "training.lr_warmup_steps", 1000 if warm_up is None else warm_up)


def _text_encoder(reader: SettingsReader, family: str | None) -> None:
    learns = reader.read("train.train_text_encoder", boolean, False)
    if learns and not any(known.text_encoder_targets for known in families.FAMILIES if known.name == family):
        reader.skip("train.train_text_encoder", "the text encoders of this family do not learn here.")
    elif reader.has("train.train_text_encoder"):
        reader.set("train.train_text_encoder", "lora.text_encoder", learns)
        if not learns or leave_text_encoder_rate(reader, "train.text_encoder_lr"):
            return
        rate = reader.read("train.text_encoder_lr", number) or reader.values.get("training.learning_rate", names.DEFAULTS["train.lr"][1])
        reader.set("train.text_encoder_lr", "training.text_encoder_learning_rate", rate, f"{rate:g}")


def _timesteps(reader: SettingsReader, family: str | None) -> None:
    if family is None or family in names.DISCRETE:
        if reader.has("train.timestep_type"):
            reader.skip("train.timestep_type", "it only affects flow-matching models; this base has a discrete schedule.", matters=False)
        return
    kind = reader.read("train.timestep_type", text, "sigmoid")
    if kind in names.TIMESTEPS:
        density, shift = names.TIMESTEPS[kind]
        reader.set("train.timestep_type", "training.timestep_density", density, kind)
        reader.set("train.timestep_type", "training.timestep_shift", shift, kind)
        if kind == "weighted":
            reader.skip("train.timestep_type", "noise levels are sampled uniformly, as there; their loss weights are not supported.")
    elif kind in names.SHIFTED:
        reader.set("train.timestep_type", "training.timestep_density", "uniform", kind)
    else:
        reader.skip("train.timestep_type", f"the studio supports {', '.join((*names.TIMESTEPS, *names.SHIFTED))}; the base's default is used.")


def _memory(reader: SettingsReader) -> None:
    if reader.read("model.quantize", boolean, False):
        # After a bar comes the path of an adapter that compensates for quantisation errors.
        kind = str(reader.get("model.qtype", "qfloat8")).partition("|")[0].lower()
        reader.set("model.quantize", "runtime.quantisation", names.QUANTISATIONS.get(kind, "nf4"), f"true, {kind}")
        if kind not in names.QUANTISATIONS:
            reader.skip("model.qtype", "the studio has int8, fp8 and nf4; nf4 is used.")
    elif reader.has("model.quantize"):
        reader.skip("model.quantize", OFF, matters=False)
    for name in ("model.layer_offloading", "model.auto_memory", "network.layer_offloading"):
        if reader.get(name) is True:
            reader.set(name, "runtime.offload", True)
        elif reader.has(name):
            reader.skip(name, OFF, matters=False)
    if reader.get("train.ema_config.use_ema") is True:
        decay = reader.read("train.ema_config.ema_decay", number, 0.999)
        reader.set("train.ema_config.use_ema", "training.ema_decay", decay, f"true, decay {decay:g}")
    elif reader.has("train.ema_config.use_ema"):
        reader.skip("train.ema_config.use_ema", OFF, matters=False)
    reader.mark_used("train.ema_config.ema_decay")


def _samples(reader: SettingsReader) -> None:
    if reader.get("train.disable_sampling") is True:
        reader.set("train.disable_sampling", "samples.prompts", [])
        for name in ("sample.prompts", "sample.samples"):
            if reader.has(name):
                reader.skip(name, "sampling is switched off.", matters=False)
        return
    for name in ("sample.samples", "sample.prompts"):
        prompts = reader.read(name, _prompts, [])
        if prompts and "samples.prompts" not in reader.values:
            reader.set(name, "samples.prompts", prompts[: names.MOST_PROMPTS], f"{len(prompts)} prompts")
            if len(prompts) > names.MOST_PROMPTS:
                reader.skip(name, f"the studio supports {names.MOST_PROMPTS} sample prompts; the first ones are used.")


def _prompts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Unsupported("it must be a list of prompts.")
    return [text(each.get("prompt", "") if isinstance(each, dict) else each) for each in value]
