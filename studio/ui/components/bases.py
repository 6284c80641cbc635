"""The bases as every dropdown lists them, and what stands below the one that is chosen: licence, login, memory, in words."""

import gradio as gr

from studio import families
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
    """(title, id) of every base that is proposed, the one that ships first, then family by family; then those of one's own runs."""
    offered = [offer for family in families.FAMILIES for offer in family.offers]
    own = {run.config.model.base_model for run in Run.all(workspace)} - {offer.id for offer in offered} if workspace else ()
    return [(titled(offer), offer.id) for offer in offered] + [(_owned(bases.get_base(base)), base) for base in sorted(own)]


def titled(offer: Offer) -> str:
    """What matters before choosing it: whether its pictures may be sold, and what it takes to have it."""
    here = bases.get_base(offer.id).is_local
    marks = [
        *(["non-commercial"] if not offer.licence.commercial else []),
        *(["login needed"] if offer.gated and not here else []),
        *([f"{gigabytes(offer.gigabytes)} to fetch"] if not here else []),
    ]
    return f"{offer.title} ({', '.join(marks)})" if marks else offer.title


def about(base_model: str | None, studio: Studio, training: bool = False) -> str:
    """Below the field. What a base takes of memory depends on what it is to do: a training has its parts in memory one after the other."""
    base = bases.get_base(base_model or "")
    if not base.base_model:
        return notice("No base model is chosen. Take one from the list, or write owner/name as on the Hub, or a folder on this computer.", "warn")
    if not base.offer:
        return facts([_unknown(base)])
    offer = base.offer
    return facts([render("bases", "licence", offer.licence), offer.note, "" if base.is_local else _fetching(offer, studio), _memory(offer, training)])


def to_draw(offer: Offer) -> float:
    """Gigabytes of all its weights in 16 bits, as they are together while it draws."""
    return (offer.denoiser_billions + offer.encoder_billions + AUTOENCODER_BILLIONS) * BYTES_IN_16_BITS


def in_memory(offer: Offer) -> tuple[float, float]:
    """Gigabytes of the part that learns, in 16 bits and packed in 4."""
    return offer.denoiser_billions * BYTES_IN_16_BITS, offer.denoiser_billions * BYTES_IN_4_BITS


def place_about(base: gr.Dropdown, studio: Studio, training: bool = False) -> gr.HTML:
    """`about`, here and now, for whatever base is chosen."""
    shown = html(about(base.value, studio, training))
    base.change(lambda base_model: about(base_model, studio, training), base, shown, **QUIET)
    return shown


def gigabytes(number: float) -> str:
    """Rounded as far as anybody can know; number and unit stay on one line."""
    return f"{number:.1f}\u00a0GB" if number < 3 else f"{number:.0f}\u00a0GB"


def _owned(base: Base) -> str:
    return f"{base.title} (yours{', ' + base.family.title if base.family else ''})"


def _fetching(offer: Offer, studio: Studio) -> str:
    space = studio.access.mode == "space"
    return render("bases", "fetching", gigabytes(offer.gigabytes), offer.id, f"{endpoint()}/{offer.id}", offer.gated, space)


def _memory(offer: Offer, training: bool) -> str:
    if offer.folder:
        return ""
    if not training:
        return f"Memory to draw: about {gigabytes(to_draw(offer))} in 16 bits."
    (whole, packed), encoders = in_memory(offer), offer.encoder_billions * BYTES_IN_16_BITS
    return (
        f"Memory to train: {gigabytes(whole)} for the part that learns ({gigabytes(packed)} packed in 4 bits), and what learning adds. "
        f"The part that reads prompts ({gigabytes(encoders)}) is in memory before it, not beside it."
    )


def _unknown(base: Base) -> str:
    page = f"{endpoint()}/{base.base_model}"
    if families.as_file(base.base_model):
        return render("bases", "file", base.title, base.family.title if base.family else "", base.is_local)
    if base.folder and base.family:
        return render("bases", "folder", base.family.title, page if base.folder.revision else "")
    if base.base_model.count("/") == 1 and not base.base_model.startswith((".", "~", "/")):
        return render("bases", "unknown", base.base_model, page)
    return render("bases", "nowhere", repr(base.base_model[:100]))
