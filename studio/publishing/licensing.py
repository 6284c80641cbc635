"""Which licence a LoRA may be passed on under: the choices, what its base's licence proposes and why, and what that does not allow. No torch.

A LoRA is made from its base. Some bases leave it free, some ask that their list of forbidden uses goes along, some bind it to their whole text.
"""

from dataclasses import dataclass

from studio.core.errors import StudioError
from studio.families.facts import Licence
from studio.families.licences import APACHE, CC0, CC_BY, CC_BY_NC, CC_BY_SA, MIT, OPENRAIL, OPENRAIL_PLUS

AS_BASE, OTHER = "base", "other"
KNOWN = {licence.id: licence for licence in (APACHE, MIT, CC0, CC_BY, CC_BY_SA, CC_BY_NC, OPENRAIL, OPENRAIL_PLUS)}
LICENCES = {
    "": "Not chosen (nobody may reuse it)",
    AS_BASE: "The same as its base",
    **{id: f"{licence.title}: {licence.words[0].lower()}{licence.words[1:-1]}" for id, licence in KNOWN.items()},
    OTHER: "Another one: give its name and link",
}
"""What can be asked for, each in plain words: the Hub's ids, and two words of our own."""


@dataclass(frozen=True)
class Grant:
    """The licence of a LoRA as its card says it; all empty when none was chosen."""

    id: str = ""
    name: str = ""
    link: str = ""


def settle(base_title: str, base: Licence | None, licence: str, name: str = "", link: str = "") -> Grant:
    """What was asked for, with the base's own put in where that was asked. StudioError for an unknown one, or for a base of unknown licence."""
    if licence not in LICENCES:
        raise StudioError(f"Unknown licence {licence!r}; known: {', '.join(each for each in LICENCES if each)}.")
    if licence != AS_BASE:
        return Grant(licence, name, link) if licence == OTHER else Grant(licence)
    if base is None:
        raise StudioError(f"The licence of {base_title} is not known here, so it cannot be taken over; look at its page, then choose one by name.")
    return Grant(base.id, base.name, base.link) if base.id == OTHER else Grant(base.id)


def proposed(base: Licence | None) -> str:
    """What the form begins with; a base that leaves it free proposes nothing."""
    return AS_BASE if base and base.binds != "nothing" else ""


def why(base_title: str, base: Licence | None) -> str:
    """One sentence on what the base's licence means for a LoRA."""
    if base is None:
        return f"The licence of {base_title}, which it was made from, is not known here; look at its page before you choose."
    made = f"It was made from {base_title}"
    if base.binds == "nothing":
        return f"{made}, whose licence ({base.title}) leaves the choice to you."
    if base.binds == "uses":
        return f"{made}, whose licence ({base.title}) asks that its list of harmful uses goes along; the same licence does that."
    purpose = "" if base.commercial else ", for non-commercial use"
    return f"{made}, whose licence ({base.title}) covers LoRAs made from it, so it is passed on under the same one{purpose}."


def refusal(base_title: str, base: Licence | None, grant: Grant) -> str:
    """Why a LoRA of this base cannot be given this licence; empty when nothing speaks against it."""
    if base is None or base.binds != "all" or grant.id in ("", base.id):
        return ""
    return (
        f"The licence of {base_title} ({base.title}) covers LoRAs made from it and does not allow {KNOWN[grant.id].title}. "
        f"Choose the same as its base, or none."
    )


def advice(base_title: str, base: Licence | None, grant: Grant, name: str) -> list[str]:
    """What is worth knowing before it is passed on under this licence and this name, in sentences."""
    if base is None:
        return []
    said = []
    if base.binds == "all" and grant.id == OTHER and grant.name != base.name:
        said.append(f"{base_title} is under the {base.title}; another one is yours to answer for.")
    if base.binds == "uses" and grant.id and not forbids_uses(grant):
        said.append(f"The licence you chose has no list of harmful uses; the card says that the one of {base_title} applies.")
    if base.begins and name and not name.lower().startswith(base.begins.lower()):
        said.append(f"The licence of {base_title} asks that the name begins with “{base.begins}”.")
    return said


def forbids_uses(grant: Grant) -> bool:
    return grant.id in KNOWN and KNOWN[grant.id].binds == "uses"
