"""Licence of a LoRA: the choices, the default for its base model, and conflicts with the base's licence. No torch.

A LoRA is derived from its base. Some licences leave the choice free, some require their use restrictions to be passed on, some apply in full.
"""

from dataclasses import dataclass

from studio.core.errors import StudioError
from studio.families.facts import Licence
from studio.families.licences import APACHE, CC0, CC_BY, CC_BY_NC, CC_BY_SA, MIT, OPENRAIL, OPENRAIL_PLUS

AS_BASE, OTHER = "base", "other"
KNOWN = {licence.id: licence for licence in (APACHE, MIT, CC0, CC_BY, CC_BY_SA, CC_BY_NC, OPENRAIL, OPENRAIL_PLUS)}
LICENCES = {
    "": "Not chosen (others may not reuse it)",
    AS_BASE: "The same as its base",
    **{id: f"{licence.title}: {licence.summary[0].lower()}{licence.summary[1:-1]}" for id, licence in KNOWN.items()},
    OTHER: "Other: give its name and link",
}
"""Choices and their labels: licence ids of the Hub, and the two special values `base` and `other`."""


@dataclass(frozen=True)
class Grant:
    """Licence of a LoRA as written on its card; all empty when none was chosen."""

    id: str = ""
    name: str = ""
    link: str = ""


def resolve_grant(base_title: str, base: Licence | None, licence: str, name: str = "", link: str = "") -> Grant:
    """The requested licence; `base` is replaced by the base's own. StudioError for an unknown licence, or for `base` when the base's is unknown."""
    if licence not in LICENCES:
        raise StudioError(f"Unknown licence {licence!r}; choose one of: {', '.join(each for each in LICENCES if each)}.")
    if licence != AS_BASE:
        return Grant(licence, name, link) if licence == OTHER else Grant(licence)
    if base is None:
        raise StudioError(f"The licence of {base_title} is not known to the studio; check the page of the base, then choose a licence by name.")
    return Grant(base.id, base.name, base.link) if base.id == OTHER else Grant(base.id)


def default_licence(base: Licence | None) -> str:
    """Default of the form; empty for a base whose licence leaves the choice free."""
    return AS_BASE if base and base.inherits != "nothing" else ""


def explain_base_licence(base_title: str, base: Licence | None) -> str:
    """What the base's licence requires of a LoRA, in one sentence."""
    if base is None:
        return f"The licence of the base model, {base_title}, is not known to the studio; check its page before you choose."
    trained_on = f"This LoRA was trained on {base_title}"
    if base.inherits == "nothing":
        return f"{trained_on}, whose licence ({base.title}) leaves the choice to you."
    if base.inherits == "uses":
        return f"{trained_on}, whose licence ({base.title}) requires you to pass on its use restrictions; choosing the same licence does that."
    purpose = "" if base.commercial else ", for non-commercial use"
    return f"{trained_on}, whose licence ({base.title}) also covers LoRAs, so this LoRA is published under the same one{purpose}."


def find_conflict(base_title: str, base: Licence | None, grant: Grant) -> str:
    """Error message if the base's licence rules out this one, else an empty string."""
    if base is None or base.inherits != "all" or grant.id in ("", base.id):
        return ""
    return (
        f"The licence of {base_title} ({base.title}) also covers LoRAs and does not allow {KNOWN[grant.id].title}. "
        f"Choose the same licence as the base, or none."
    )


def find_warnings(base_title: str, base: Licence | None, grant: Grant, name: str) -> list[str]:
    """Warnings about this licence and this repository name."""
    if base is None:
        return []
    warnings = []
    if base.inherits == "all" and grant.id == OTHER and grant.name != base.name:
        warnings.append(f"{base_title} is under the {base.title}; choosing another licence is your own responsibility.")
    if base.inherits == "uses" and grant.id and not forbids_uses(grant):
        warnings.append(f"The chosen licence has no use restrictions; the card states that those of {base_title} apply.")
    if base.name_prefix and name and not name.lower().startswith(base.name_prefix.lower()):
        warnings.append(f"The licence of {base_title} requires the name to begin with “{base.name_prefix}”.")
    return warnings


def forbids_uses(grant: Grant) -> bool:
    return grant.id in KNOWN and KNOWN[grant.id].inherits == "uses"
