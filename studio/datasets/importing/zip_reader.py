"""Reader for untrusted zips: member by member into memory, with limits; no path from an archive is used on disk.

Runs in the decoder process only.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from studio.core.errors import StudioError

MOST_MEMBERS = 2000
MOST_BYTES = 2 * 1000**3
LARGEST_MEMBER = 200 * 1000**2
LARGEST_RATIO = 100
RATIO_COUNTS_FROM = 10 * 1000**2
"""Smaller members may have any compression ratio, as flat artwork does."""
LARGEST_DIRECTORY = MOST_MEMBERS * 1024
CHUNK = 1 << 20
CLUTTER = ("thumbs.db", "desktop.ini")


class Member:
    """One file of an archive. `read()` returns its bytes or raises StudioError with the reason, without its name."""

    def __init__(self, archive: "Archive", info: zipfile.ZipInfo):
        self.archive = archive
        self.info = info
        # Windows tools store backslashes; zipfile already truncates at NUL.
        self.name = info.filename.replace("\\", "/")

    def read(self) -> bytes:
        mode = self.info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise StudioError("it is a link or a device, not a file; add the image itself.")
        if self.info.flag_bits & 1:
            raise StudioError("it is encrypted; create the archive without a password.")
        size, packed = self.info.file_size, max(1, self.info.compress_size)
        if size > LARGEST_MEMBER:
            raise StudioError(f"it unpacks to {size / 1000**2:,.0f} MB; at most {LARGEST_MEMBER // 1000**2} MB are allowed.")
        if size > RATIO_COUNTS_FROM and size / packed > LARGEST_RATIO:
            raise StudioError(f"it unpacks to {size / packed:,.0f} times its size; at most {LARGEST_RATIO} times are allowed.")
        return self.archive.read(self.info)


class Archive:
    """An open zip; iterate over its members. Directories and operating system files are skipped."""

    def __init__(self, path: Path):
        _check_directory(path)
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            raise StudioError("it is not a valid zip; create it again.") from None
        self.left = MOST_BYTES

    def __iter__(self) -> Iterator[Member]:
        for info in self.zip.infolist():
            member = Member(self, info)
            parts = member.name.split("/")
            clutter = "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1].lower() in CLUTTER
            if not member.name.endswith("/") and not clutter:
                yield member

    def read(self, info: zipfile.ZipInfo) -> bytes:
        data = bytearray()
        try:
            with self.zip.open(info) as stream:
                while chunk := stream.read(CHUNK):
                    data += chunk
                    self.left -= len(chunk)
                    if self.left < 0:
                        raise StudioError(f"the archive unpacks to more than {MOST_BYTES / 1000**3:.0f} GB; split it into several.")
                    if len(data) > LARGEST_MEMBER:
                        raise StudioError(f"it unpacks to more than {LARGEST_MEMBER // 1000**2} MB.")
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, struct.error):
            raise StudioError("it is damaged inside the archive; create the archive again.") from None
        except NotImplementedError:
            raise StudioError("its compression method is not supported; create an ordinary zip.") from None
        return bytes(data)


def _check_directory(path: Path) -> None:
    """Check the zip's end record before zipfile reads a huge directory into memory (APPNOTE.TXT 4.3.16)."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65557))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        raise StudioError("it is not a valid zip, or it is truncated; copy or create it again.")
    members, directory = struct.unpack("<HI", tail[at + 10 : at + 16])
    if members > MOST_MEMBERS or directory > LARGEST_DIRECTORY:
        raise StudioError(f"it contains more than {MOST_MEMBERS:,} files; use several zips with only the images.")
