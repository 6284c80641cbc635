"""The sample images as cards; a click calls `use_samples` with the name of the set."""

from dataclasses import dataclass

from studio import builtin
from studio.ui import files
from studio.ui.components.templates import render

SAMPLES = {
    "style": ("Ink style", "a drawing style that the built-in model cannot produce"),
    "character": ("Little character", "a character that the built-in model has never seen"),
}


@dataclass(frozen=True)
class SampleSet:
    """A set of sample images as its card shows it; `thumbs` are URLs."""

    name: str
    title: str
    description: str
    count: int
    thumbs: list[str]


def cards(introduction: str) -> str:
    sets = []
    for name, (title, description) in SAMPLES.items():
        images = sorted(builtin.SAMPLES[name].glob("*.png"))
        sets.append(SampleSet(name, title, description, len(images), [files.shipped_url(image) for image in images[:4]]))
    return render("dataset", "samples", introduction, sets)
