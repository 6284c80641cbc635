"""The README.md of a published LoRA: what it is, how to use it, how it was made, who says that it may be, and what nobody measured.

The YAML comes from ModelCardData, never from string formatting; everything a person typed is escaped in the body. No torch.
"""

import re

from huggingface_hub import ModelCard, ModelCardData

from studio.config import TrainConfig, fields
from studio.core.errors import StudioError
from studio.hub.client import WEIGHTS_NAME
from studio.publishing.facts import About, Base, plain
from studio.publishing.licensing import KNOWN, OTHER, Grant, forbids_uses
from studio.publishing.snippets import call_code

NOT_READ_YET = "computed when it is sent"
"""Stands in a preview for the hash of a large file that only a job may read."""
BACKSLASHED = "*_#+=:@!-"
ESCAPED = re.compile(r"[&<>\"'`|$~()\[\]{}\\*_#+=:@!-]")


def render(about: About) -> str:
    """The whole README.md. Parsed again and compared before it is returned, so that no text of a person became a key."""
    data = metadata(about)
    text = f"---\n{data.to_yaml(line_break=chr(10))}\n---\n\n{_body(about)}"
    if ModelCard(text).data.to_dict() != data.to_dict():
        raise StudioError("The model card does not read back as it was written; shorten the title, trigger word and prompts to plain words.")
    return text


def metadata(about: About) -> ModelCardData:
    """The YAML part: what the Hub's search, its widget and "use this model" read."""
    tags = ["text-to-image", "lora", "diffusers", *about.family_tags, "template:sd-lora"]
    widget = [{"text": plain(sample.prompt) or " ", "output": {"url": sample.path}} for sample in about.samples]
    grant, other = about.grant, about.grant.id == OTHER
    return ModelCardData(
        license=grant.id or None,
        license_name=plain(grant.name) or "see the card" if other else None,
        license_link=plain(grant.link) or None if other else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        base_model=about.base.hub_id,
        tags=tags,
        # ModelCardData leaves out what is None, so these exist only where they are true.
        base_model_relation="adapter" if about.base.hub_id else None,
        instance_prompt=about.trigger_word or None,
        widget=widget or None,
    )


def escape(text: str) -> str:
    """A person's text as Markdown that shows exactly that text: no HTML, link, emphasis, list, table, mention or formula."""
    safe = ESCAPED.sub(lambda match: f"\\{match[0]}" if match[0] in BACKSLASHED else f"&#{ord(match[0])};", plain(text))
    return re.sub(r"^(\d+)\.(?=\s|$)", r"\1\\.", safe.replace("www.", "www\\."))


def _body(about: About) -> str:
    parts = [
        f"# {escape(about.title)}",
        _what(about),
        "<Gallery />" if about.samples else "No sample pictures were published with it.",
        _comparison(about),
        _trigger(about),
        _use(about),
        _training(about),
        _rights(about),
        _not_measured(about),
        _limits(about),
        "Made with LoRA Studio.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(about: About) -> str:
    subject = {"style": "a style", "character": "a character", "object": "a product, object or outfit"}[about.config.dataset.subject]
    lines = [f"A LoRA that teaches {about.family_title} {subject}. It works on top of {_base_name(about.base)}."]
    lines += [escape(line) for line in about.description.splitlines() if plain(line)]
    return "\n\n".join(lines)


def _base_name(base: Base) -> str:
    if base.hub_id:
        link = f"[{escape(base.hub_id)}](https://huggingface.co/{base.hub_id})"
        return f"{link}, revision `{base.revision}`" if base.revision else link
    named = f"**{escape(base.title)}**, which is not on the Hub"
    if base.single and base.single.rest:
        rest = base.single
        what = "other parts" if rest.part else "settings"
        return f"{named}, with the {what} of [{escape(rest.rest)}](https://huggingface.co/{rest.rest}), revision `{rest.revision}`"
    return named


def _comparison(about: About) -> str:
    rows = [sample for sample in about.samples if sample.before]
    if not rows:
        return ""
    table = "\n".join(f"| {escape(row.prompt)} | ![base alone]({row.before}) | ![with the LoRA]({row.path}) |" for row in rows)
    return f"The same prompt and seed without and with it:\n\n| Prompt | Base alone | With this LoRA |\n| --- | --- | --- |\n{table}"


def _trigger(about: About) -> str:
    if not about.trigger_word:
        return "## Trigger word\n\nNone: it works on every prompt."
    trained = about.trained
    return (
        f"## Trigger word\n\nPut **{escape(about.trigger_word)}** into the prompt. "
        f"It stood in {trained.captioned_with_trigger} of the {trained.pictures} captions."
    )


def _use(about: About) -> str:
    base = about.base
    where = f" {escape(base.title)} is in the folder `{base.hint}` of LoRA Studio's own files." if base.hint else ""
    where = where or ("" if base.hub_id else f" Give the {'path' if base.single else 'folder'} where you have {escape(base.title)}.")
    code = call_code(about)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"## Use it\n\nWith [diffusers](https://github.com/huggingface/diffusers).{where}\n\n{fence}python\n{code}\n{fence}"


def _training(about: About) -> str:
    trained, config = about.trained, about.config
    took = f" in {trained.seconds:,.0f} seconds" if trained.seconds is not None else ""
    device = f" on {escape(config.runtime.device)}" if config.runtime.device else ""
    dark = f"counted {config.dataset.mask_floor:.0%}" if config.dataset.mask_floor else "did not count"
    masked = f", {trained.masked} of them with a mask whose dark parts {dark}" if trained.masked else ""
    early = f" of the {config.training.max_train_steps} planned" if trained.stopped_early else ""
    lines = [
        "## How it was trained",
        f"{trained.steps} steps{early}{took}{device}, from {trained.pictures} pictures{masked}. "
        "The pictures and captions are not part of this repository.",
        f"- Base: {_base_name(about.base)}",
        f"- Pictures and captions, sha256: `{trained.dataset_sha256}`",
        f"- {WEIGHTS_NAME}, sha256: `{trained.adapter_sha256 or NOT_READ_YET}`",
    ]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]) + "\n\n" + _settings(public_config(config, about.base))


def _settings(config: TrainConfig) -> str:
    rows = []
    for leaf in fields.leaves(config):
        rows.append(f"| {leaf.title} | `{leaf.path}` | {_shown(fields.get(config, leaf.path))} |")
    head = "| Setting | Name | Value |\n| --- | --- | --- |\n"
    return "<details>\n<summary>Every setting</summary>\n\n" + head + "\n".join(rows) + "\n\n</details>"


def _shown(value) -> str:
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(", ".join(value) if isinstance(value, list) else str(value))


def _rights(about: About) -> str:
    rights, lines = about.rights, ["## Rights and consent"]
    said = escape(rights.statement) or "Nothing was stated."
    lines.append(f"{said} Stated by {escape(rights.stated_by)}." if rights.stated_by else said)
    if rights.real_person:
        lines.append("The pictures show a real person.")
        lines.append(f"How they agreed: {escape(rights.consent)}" if plain(rights.consent) else "No consent was written down.")
    else:
        lines.append("The maker says that the pictures show no real person.")
    return "\n\n".join([*lines, _granted(about.grant), *_of_base(about)])


def _granted(grant: Grant) -> str:
    if grant.id == OTHER:
        link = plain(grant.link)
        return f"Licence: {escape(grant.name)}{' ' + escape(link) if link else ''}"
    if not grant.id:
        return "No licence was chosen."
    licence = KNOWN[grant.id]
    return f"Licence: [{escape(licence.title)}]({licence.link}) (`{grant.id}`). {escape(licence.words)}"


def _of_base(about: About) -> list[str]:
    """What the base's licence means for whoever uses the LoRA: in words, with what it asks to be said."""
    base, licence = about.base, about.base.licence
    if licence is None:
        return _of_unknown_base(base)
    lines = [f"The base model, {escape(base.title)}, is under the [{escape(licence.title)}]({licence.link}). {escape(licence.words)}"]
    if licence.binds == "all":
        lines.append("Its licence covers LoRAs made from it, this one included.")
    if licence.binds == "uses" and not forbids_uses(about.grant):
        lines.append("The uses that it forbids are forbidden for this LoRA as well.")
    return [*lines, licence.says] if licence.says else lines


def _of_unknown_base(base: Base) -> list[str]:
    if base.stated_licence:
        return [f"The licence of the base model, as the maker states it: {escape(base.stated_licence)}"]
    return ["The licence of the base model is not known; whoever uses this has to find it out."] if base.licence_unknown else []


def _not_measured(about: About) -> str:
    return "\n".join(
        [
            "## What was not measured",
            "",
            "- How well it keeps to its subject over many pictures; the samples are the ones its run drew, on one seed.",
            "- Whether it repeats training pictures.",
            "- What it does to prompts about other things, and which biases of the base it strengthens.",
            "- Other base models than the one above.",
        ]
    )


def _limits(about: About) -> str:
    trained, config = about.trained, about.config
    own = f"are {config.samples.resolution} pixels wide and high" if config.samples.resolution else "have the base model's own size"
    tried = f"the samples {own}, and other sizes were not tried" if about.samples else "other sizes were not tried"
    limits = [f"It was taught at {config.dataset.resolution} x {config.dataset.resolution} pixels; {tried}."]
    if trained.pictures < 10:
        limits.append(f"{trained.pictures} pictures are few: expect it to repeat them.")
    if about.trigger_word and trained.captioned_with_trigger < trained.pictures:
        limits.append("The trigger word was missing in some captions, so it may also work without it.")
    if config.dataset.caption_dropout:
        limits.append(f"{config.dataset.caption_dropout:.0%} of the captions were hidden, so it may also work without the trigger word.")
    if trained.stopped_early:
        limits.append("Training was stopped before the planned end, or an earlier step was chosen.")
    if not about.base.hub_id:
        limits.append(f"Its base, {escape(about.base.title)}, has to be on your computer.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def public_config(config: TrainConfig, base: Base) -> TrainConfig:
    """The config as published: without the dataset's name, and without a path on the maker's computer."""
    return fields.replace(config, {"dataset.id": "", "model.family": config.model.family, "model.base_model": base.id})
