"""Init images of an owner's recipes. Each is a copy, named by a hash of its pixels: a recipe stays exact when the image it came from is removed."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from studio.core import storage
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.importing.images import decode_files

if TYPE_CHECKING:
    from PIL import Image


NAME = "image"
"""Name under which the decoder reads an init image: always as an image, whatever its file is called."""


def keep_init_image(workspace: Workspace, source: Path | bytes) -> str:
    """Copy an untrusted image, a file or its bytes; returns the id that a recipe names. StudioError with the reason if it cannot be read."""
    with tempfile.TemporaryDirectory(dir=workspace.inits, prefix=".") as made:
        folder = Path(made)
        if not isinstance(source, Path):
            sent, source = source, folder / "sent"
            with storage.saving("the init image"):
                source.write_bytes(sent)
        decoded = decode_files([{"path": str(source), "name": NAME}], folder)
        if not decoded.images:
            raise StudioError(f"The init image cannot be used: {decoded.refused[0]['reason'].removeprefix(f'{NAME}: ')}")
        image_id = decoded.images[0].id
        storage.replace_file(folder / f"{image_id}.png", workspace.init_path(image_id))
    return image_id


def load_init_image(workspace: Workspace, image_id: str) -> "Image.Image":
    from PIL import Image

    try:
        with Image.open(workspace.init_path(image_id), formats=["PNG"]) as opened:
            return opened.convert("RGB")
    except FileNotFoundError:
        raise StudioError("The init image of this recipe is not in this studio. Choose it again, or remove it from the settings.") from None
    except (OSError, SyntaxError, ValueError):
        raise StudioError("The init image of this recipe is damaged. Choose it again, or remove it from the settings.") from None
