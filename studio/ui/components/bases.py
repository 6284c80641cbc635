"""Base models as every dropdown lists them, and the details below the chosen one: licence, login, memory."""

from pathlib import Path

import gradio as gr

from studio import families
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.devices.footprint import FILE_BYTES, QUANTISED_BYTES
from studio.families import bases
from studio.families.bases import Base
from studio.families.facts import AUTOENCODER_BILLIONS, Offer
from studio.hub.errors import endpoint
from studio.runs.run import Run
from studio.ui.components.html import facts, html, notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio

BYTES_IN_16_BITS, BYTES_IN_4_BITS = FILE_BYTES["bfloat16"], QUANTISED_BYTES["nf4"]


def choices(workspace: Workspace | None = None) -> list[tuple[str, str]]:
    """(label, id) of every offered base, the shipped one first, then by family; then the bases of the owner's runs."""
    offered = [offer for family in families.FAMILIES for offer in family.offers]
    own = {run.config.model.base_model for run in Run.all(workspace)} - {offer.id for offer in offered} if workspace else set()
    return [(base_label(offer), offer.id) for offer in offered] + [(_own_label(bases.get_base(base)), base) for base in sorted(own)]


def base_label(offer: Offer) -> str:
    """Title with the facts that matter before choosing: licence, login, download size."""
    local = bases.get_base(offer.id).is_local
    marks = [
        *(["non-commercial"] if not offer.licence.commercial else []),
        *(["login needed"] if offer.gated and not local else []),
        *([f"{gigabytes(offer.gigabytes)} to download"] if not local else []),
    ]
    return f"{offer.title} ({', '.join(marks)})" if marks else offer.title


def describe_base(base_model: str | None, studio: Studio, training: bool = False) -> str:
    """Details below the field. The memory depends on the task: training holds the parts of a base in memory one after the other."""
    base = bases.get_base(base_model or "")
    if not base.base_model:
        return notice("No base model is chosen. Choose one from the list, or enter a Hub id (owner/name) or a folder on this computer.", "warn")
    if not base.offer:
        problem = find_problem(base_model or "") if training else ""
        return notice(problem, "bad") if problem else facts([_unlisted(base)])
    offer = base.offer
    download = "" if base.is_local else _download(offer, studio)
    return facts([render("bases", "licence", offer.licence), offer.note, download, _memory(offer, training)])


def find_problem(base_model: str) -> str:
    """Why a training on this base would fail at its start; empty if nothing is known against it. Asks the Hub about an id that is not downloaded."""
    base = bases.get_base(base_model)
    if not base.base_model or base.offer or (base.folder and base.family):
        return ""
    if file := families.as_file(base.base_model):
        return "" if file.is_file() else f"There is no file {base.title!r}; check its path, or choose a base from the list."
    if _is_path(base.base_model):
        return f"{base.base_model[:100]!r} is not the folder of a diffusers model: it has no model_index.json. Choose the folder that has one."
    from studio.hub import client  # imported here: it takes half a second

    try:
        client.check_model(base.base_model, client.machine_login())
    except StudioError as error:
        return str(error)
    return ""


def _is_path(base_model: str) -> bool:
    return base_model.startswith((".", "~", "/")) or "\\" in base_model or Path(base_model).is_absolute()


def generation_gigabytes(offer: Offer) -> float:
    """Memory of all its weights in 16 bits, which generating holds at once."""
    return (offer.denoiser_billions + offer.encoder_billions + AUTOENCODER_BILLIONS) * BYTES_IN_16_BITS


def denoiser_gigabytes(offer: Offer) -> tuple[float, float]:
    """Memory of the denoiser, in 16 bits and quantised to 4."""
    return offer.denoiser_billions * BYTES_IN_16_BITS, offer.denoiser_billions * BYTES_IN_4_BITS


def add_base_details(base: gr.Dropdown, studio: Studio, training: bool = False) -> gr.HTML:
    """Show `describe_base` below the dropdown for whatever base is chosen."""
    shown = html(describe_base(base.value, studio, training))
    base.change(lambda base_model: describe_base(base_model, studio, training), base, shown, **QUIET)
    return shown


def gigabytes(number: float) -> str:
    """Rounded to a sensible precision; number and unit stay on one line."""
    return f"{number:.1f}\u00a0GB" if number < 3 else f"{number:.0f}\u00a0GB"


def _own_label(base: Base) -> str:
    return f"{base.title} (yours{', ' + base.family.title if base.family else ''})"


def _download(offer: Offer, studio: Studio) -> str:
    space = studio.access.mode == "space"
    return render("bases", "download", gigabytes(offer.gigabytes), offer.id, f"{endpoint()}/{offer.id}", offer.gated, space)


def _memory(offer: Offer, training: bool) -> str:
    if offer.folder:
        return ""
    if not training:
        return f"Memory for generating: about {gigabytes(generation_gigabytes(offer))} in 16 bits."
    (full, quantised), encoders = denoiser_gigabytes(offer), offer.encoder_billions * BYTES_IN_16_BITS
    return (
        f"Memory for training: {gigabytes(full)} for the denoiser ({gigabytes(quantised)} quantised to 4 bits), plus "
        f"activations, LoRA parameters and optimizer state. The text encoder ({gigabytes(encoders)}) is loaded before it, not at the same time."
    )


def _unlisted(base: Base) -> str:
    page = f"{endpoint()}/{base.base_model}"
    if families.as_file(base.base_model):
        return render("bases", "file", base.title, base.family.title if base.family else "", base.is_local)
    if base.folder and base.family:
        return render("bases", "folder", base.family.title, page if base.folder.revision else "")
    if base.base_model.count("/") == 1 and not _is_path(base.base_model):
        return render("bases", "not_downloaded", base.base_model, page)
    return render("bases", "not_found", repr(base.base_model[:100]))
