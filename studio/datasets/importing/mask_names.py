"""Which names make a file the mask of an image, and the name a mask is exported under."""

from studio.datasets.importing.matching import without_suffix

ENDINGS = ("-masklabel", ".mask", "-mask", "_mask")
"""Of a mask's name without its suffix; the first is OneTrainer's, and the one that is written."""
FOLDERS = ("mask", "masks")


def masked_by(name: str) -> list[str]:
    """The pictures, without suffix, that a file of this name may be the mask of, likeliest first; none when it is no mask's name.

    "rex-mask.png" -> ["rex"]; in an archive, "set.zip/dogs/masks/rex.png" -> ["set.zip/dogs/rex"].
    """
    *folders, stem = without_suffix(name).split("/")
    named_so = next((stem[: -len(ending)] for ending in ENDINGS if stem.lower().endswith(ending)), "")
    # The first is the archive itself, which may be called as it likes.
    inner = [index for index, folder in enumerate(folders) if index and folder.lower() in FOLDERS]
    if inner:
        del folders[inner[-1]]
    stems = [stem] * bool(inner) + [named_so] * bool(named_so)
    return ["/".join([*folders, each]) for each in stems]


def name_for(stem: str) -> str:
    """What the mask beside `stem`.png is called."""
    return f"{stem}{ENDINGS[0]}.png"
