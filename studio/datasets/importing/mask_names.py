"""Which names make a file the mask of an image, and the name a mask is exported under."""

from studio.datasets.importing.matching import without_suffix

ENDINGS = ("-masklabel", ".mask", "-mask", "_mask")
"""Endings of a mask's name without suffix; the first, OneTrainer's, is used for exports."""
FOLDERS = ("mask", "masks")


def masked_stems(name: str) -> list[str]:
    """Image names, without suffix, that a file of this name may be the mask of, likeliest first; empty if it is not a mask's name.

    "rex-mask.png" -> ["rex"]; in an archive, "set.zip/dogs/masks/rex.png" -> ["set.zip/dogs/rex"].
    """
    *folders, stem = without_suffix(name).split("/")
    by_ending = next((stem[: -len(ending)] for ending in ENDINGS if stem.lower().endswith(ending)), "")
    # The first part is the archive's own name.
    inner = [index for index, folder in enumerate(folders) if index and folder.lower() in FOLDERS]
    if inner:
        del folders[inner[-1]]
    stems = [stem] * bool(inner) + [by_ending] * bool(by_ending)
    return ["/".join([*folders, each]) for each in stems]


def mask_name(stem: str) -> str:
    """File name of the mask beside `stem`.png."""
    return f"{stem}{ENDINGS[0]}.png"
