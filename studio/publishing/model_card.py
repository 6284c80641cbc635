"""Model card (README.md) of a published LoRA: description, usage, training, rights and licence, and what was not evaluated.

The YAML comes from ModelCardData, never from string formatting; all user text is escaped in the body. No torch.
"""

import re

from huggingface_hub import ModelCard, ModelCardData

from studio.config import TrainConfig, fields
from studio.config.schedules import describe_extensions
from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.hub.client import WEIGHTS_NAME
from studio.publishing.facts import Base, CardFacts, clean_line
from studio.publishing.licensing import KNOWN, OTHER, Grant, forbids_uses
from studio.publishing.snippets import diffusers_code

NOT_READ_YET = "computed when it is sent"
"""Stands in a preview for the hash of a large file that only a job may read."""
BACKSLASHED = "*_#+=:@!-"
ESCAPED = re.compile(r"[&<>\"'`|$~()\[\]{}\\*_#+=:@!-]")


def render(facts: CardFacts) -> str:
    """The whole README.md. It is parsed again and compared before it is returned, so that user text cannot add a YAML key."""
    data = metadata(facts)
    text = f"---\n{data.to_yaml(line_break=chr(10))}\n---\n\n{_body(facts)}"
    if ModelCard(text).data.to_dict() != data.to_dict():
        raise StudioError("The YAML of the model card changes when it is read back; use only plain words in the title, trigger word and prompts.")
    return text


def metadata(facts: CardFacts) -> ModelCardData:
    """YAML metadata, read by the Hub's search, its widget and "Use this model"."""
    tags = ["text-to-image", "lora", "diffusers", *facts.family_tags, "template:sd-lora"]
    widget = [{"text": clean_line(sample.prompt) or " ", "output": {"url": sample.path}} for sample in facts.samples]
    grant, other = facts.grant, facts.grant.id == OTHER
    return ModelCardData(
        license=grant.id or None,
        license_name=clean_line(grant.name) or "see the card" if other else None,
        license_link=clean_line(grant.link) or None if other else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        base_model=facts.base.hub_id,
        tags=tags,
        # ModelCardData leaves out what is None, so these exist only where they are true.
        base_model_relation="adapter" if facts.base.hub_id else None,
        instance_prompt=facts.trigger_word or None,
        widget=widget or None,
    )


def escape(text: str) -> str:
    """User text as Markdown that renders as exactly that text: no HTML, link, emphasis, list, table, mention or formula."""
    safe = ESCAPED.sub(lambda match: f"\\{match[0]}" if match[0] in BACKSLASHED else f"&#{ord(match[0])};", clean_line(text))
    return re.sub(r"^(\d+)\.(?=\s|$)", r"\1\\.", safe.replace("www.", "www\\."))


def _body(facts: CardFacts) -> str:
    parts = [
        f"# {escape(facts.title)}",
        _what(facts),
        "<Gallery />" if facts.samples else "No sample images were published with this LoRA.",
        _comparison(facts),
        _trigger(facts),
        _use(facts),
        _training(facts),
        _rights(facts),
        _not_measured(facts),
        _limits(facts),
        "Made with LoRA Studio.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(facts: CardFacts) -> str:
    subject = {"style": "a style", "character": "a character", "object": "a product, object or outfit"}[facts.config.dataset.subject]
    lines = [f"A {facts.family_title} LoRA of {subject}. Base model: {_base_name(facts.base)}."]
    lines += [escape(line) for line in facts.description.splitlines() if clean_line(line)]
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


def _comparison(facts: CardFacts) -> str:
    rows = [sample for sample in facts.samples if sample.before]
    if not rows:
        return ""
    table = "\n".join(f"| {escape(row.prompt)} | ![base model only]({row.before}) | ![with this LoRA]({row.path}) |" for row in rows)
    return f"The same prompt and seed without and with this LoRA:\n\n| Prompt | Base model only | With this LoRA |\n| --- | --- | --- |\n{table}"


def _trigger(facts: CardFacts) -> str:
    if not facts.trigger_word:
        return "## Trigger word\n\nNone. The LoRA was trained without a trigger word."
    trained = facts.trained
    return (
        f"## Trigger word\n\nInclude **{escape(facts.trigger_word)}** in the prompt. "
        f"It was in {trained.captions_with_trigger} of the {trained.images} training captions."
    )


def _use(facts: CardFacts) -> str:
    base = facts.base
    where = f" {escape(base.title)} is in the folder `{base.hint}` of the LoRA Studio source code." if base.hint else ""
    where = where or ("" if base.hub_id else f" Replace the {'path' if base.single else 'folder'} with that of your copy of {escape(base.title)}.")
    code = diffusers_code(facts)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"## Usage\n\nWith [diffusers](https://github.com/huggingface/diffusers).{where}\n\n{fence}python\n{code}\n{fence}"


def _training(facts: CardFacts) -> str:
    trained, config = facts.trained, facts.config
    took = f" in {trained.seconds:,.0f} seconds" if trained.seconds is not None else ""
    device = f" on {escape(config.runtime.device)}" if config.runtime.device else ""
    dark = f"{config.dataset.mask_floor:.0%}" if config.dataset.mask_floor else "0"
    masked = f", {trained.masked} of them with a mask (loss weight of masked-out areas: {dark})" if trained.masked else ""
    early = f" of {config.training.max_train_steps} planned" if trained.stopped_early else ""
    # Only what had been added before the published step.
    happened = [
        text for extension, text in zip(config.training.extensions, describe_extensions(config.training)) if extension.from_step < trained.steps
    ]
    lines = [
        "## Training",
        f"{counted(trained.steps, 'step')}{early}{took}{device}, on {counted(trained.images, 'image')}{masked}. "
        f"{''.join(f'{sentence} ' for sentence in happened)}The training images and captions are not part of this repository.",
        f"- Base model: {_base_name(facts.base)}",
        f"- Images and captions, sha256: `{trained.dataset_sha256}`",
        f"- {WEIGHTS_NAME}, sha256: `{trained.adapter_sha256 or NOT_READ_YET}`",
    ]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]) + "\n\n" + _settings(public_config(config, facts.base))


def _settings(config: TrainConfig) -> str:
    rows = []
    for leaf in fields.leaves(config):
        rows.append(f"| {leaf.title} | `{leaf.path}` | {_format_value(fields.get(config, leaf.path))} |")
    head = "| Setting | Name | Value |\n| --- | --- | --- |\n"
    return "<details>\n<summary>All settings</summary>\n\n" + head + "\n".join(rows) + "\n\n</details>"


def _format_value(value) -> str:
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(", ".join(value) if isinstance(value, list) else str(value))


def _rights(facts: CardFacts) -> str:
    rights, lines = facts.rights, ["## Rights and consent"]
    statement = escape(rights.statement) or "No statement was given."
    lines.append(f"{statement} Stated by {escape(rights.stated_by)}." if rights.stated_by else statement)
    if rights.real_person:
        lines.append("The training images show a real person.")
        lines.append(f"Consent: {escape(rights.consent)}" if clean_line(rights.consent) else "No consent was recorded.")
    else:
        lines.append("According to the publisher, the training images show no real person.")
    return "\n\n".join([*lines, _licence(facts.grant), *_base_licence(facts)])


def _licence(grant: Grant) -> str:
    if grant.id == OTHER:
        link = clean_line(grant.link)
        return f"Licence: {escape(grant.name)}{' ' + escape(link) if link else ''}"
    if not grant.id:
        return "No licence was chosen."
    licence = KNOWN[grant.id]
    return f"Licence: [{escape(licence.title)}]({licence.link}) (`{grant.id}`). {escape(licence.summary)}"


def _base_licence(facts: CardFacts) -> list[str]:
    """What the base's licence means for users of the LoRA, with the notice that the licence requires."""
    base, licence = facts.base, facts.base.licence
    if licence is None:
        return _unknown_base_licence(base)
    lines = [f"The base model, {escape(base.title)}, is under the [{escape(licence.title)}]({licence.link}). {escape(licence.summary)}"]
    if licence.inherits == "all":
        lines.append("That licence also covers LoRAs trained on the model, including this one.")
    if licence.inherits == "uses" and not forbids_uses(facts.grant):
        lines.append("Its use restrictions also apply to this LoRA.")
    return [*lines, licence.notice] if licence.notice else lines


def _unknown_base_licence(base: Base) -> list[str]:
    if base.stated_licence:
        return [f"The licence of the base model, as stated by the publisher: {escape(base.stated_licence)}"]
    return ["The licence of the base model is unknown; check it before you use this LoRA."] if base.has_unknown_licence else []


def _not_measured(facts: CardFacts) -> str:
    return "\n".join(
        [
            "## Not evaluated",
            "",
            "- How consistently it reproduces its subject over many images; the samples come from the training run, with one seed.",
            "- Whether it reproduces training images.",
            "- How it changes unrelated prompts, and which biases of the base model it amplifies.",
            "- Base models other than the one above.",
        ]
    )


def _limits(facts: CardFacts) -> str:
    trained, config = facts.trained, facts.config
    side = config.samples.resolution
    size = f"are {side} x {side} pixels" if side else "have the base model's default size"
    tested = f"the samples {size}, and other sizes were not tested" if facts.samples else "other sizes were not tested"
    limits = [f"Trained at {config.dataset.resolution} x {config.dataset.resolution} pixels; {tested}."]
    if trained.images < 10:
        limits.append(f"{trained.images} training images are few: the LoRA may reproduce them.")
    if facts.trigger_word and trained.captions_with_trigger < trained.images:
        limits.append("The trigger word was missing in some captions, so the LoRA may also have an effect without it.")
    if config.dataset.caption_dropout:
        limits.append(f"Caption dropout was {config.dataset.caption_dropout:.0%}, so the LoRA may also have an effect without the trigger word.")
    if trained.stopped_early:
        limits.append("Training was stopped before the planned end, or an earlier checkpoint was published.")
    if not facts.base.hub_id:
        limits.append(f"The base model, {escape(facts.base.title)}, is not on the Hub; you need a local copy.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def public_config(config: TrainConfig, base: Base) -> TrainConfig:
    """The config as published: without the dataset's name and without local paths."""
    return fields.replace(config, {"dataset.id": "", "model.family": config.model.family, "model.base_model": base.id})
