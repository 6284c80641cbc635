"""Captioners: models that write captions for images. The list is plain data; torch and transformers are imported with the first captioner.

All are native transformers classes (no remote code) with safetensors weights; those on the Hub are downloaded once, at an exact commit.
"""

from collections.abc import Callable
from pathlib import Path

from studio.core.errors import StudioError
from studio.datasets.captioners import blip, florence_2
from studio.datasets.captioners.base import Captioner, CaptionerInfo

NEEDED_FILES = ("*.json", "*.txt", "*.safetensors")

LISTED = (
    *blip.MODELS,
    *florence_2.MODELS,
)
"""Every captioner, in the order of the form."""
CAPTIONERS = {facts.name: facts for facts in LISTED}


def load(name: str, device: str = "cpu", on_progress: Callable[[int, int], None] | None = None) -> Captioner:
    """Load a captioner, downloaded from the Hub if necessary; on_progress(bytes done, total bytes)."""
    if name not in CAPTIONERS:
        raise StudioError(f"Unknown captioner {name!r}; known captioners: {', '.join(CAPTIONERS)}.")
    facts = CAPTIONERS[name]
    folder = facts.folder or _fetched(facts, on_progress)
    if not any(folder.glob("*.safetensors")):
        raise StudioError(f"{facts.title} has no safetensors weights in {folder}. Pickle files can run code and are never opened.")
    captioner = facts.model(folder, device)
    captioner.least_likelihood = facts.least_likelihood
    return captioner


def _fetched(facts: CaptionerInfo, on_progress: Callable[[int, int], None] | None) -> Path:
    from studio.hub import client

    try:
        return client.download_model(facts.repo_id, NEEDED_FILES, facts.revision, on_progress=on_progress).path
    except StudioError as error:
        size = f" ({facts.size})" if facts.size else ""
        raise StudioError(f"{facts.title} has to be downloaded once from the Hub{size}. {error} The built-in captioner needs no download.") from None
