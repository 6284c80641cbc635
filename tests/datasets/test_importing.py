"""Whatever is dropped in: every file becomes a right-looking picture or one sentence, and nothing takes the studio down."""

import io
import os
import random
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms, features

from studio.core import platform
from studio.datasets.importing import decoder, images, zip_reader
from studio.datasets.importing.images import clean_text, decode_files

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "brought"
    path.mkdir()
    return path


def encoded(picture, format="PNG", **how):
    data = io.BytesIO()
    picture.save(data, format=format, **how)
    return data.getvalue()


def patch(colour="red", size=(40, 30), mode="RGB"):
    return Image.new(mode, size, colour)


def decode_all(tmp_path, named_bytes):
    """{name: bytes} -> Decoded, in one batch and one order."""
    files = []
    for index, (name, data) in enumerate(named_bytes.items()):
        path = tmp_path / f"upload-{index}"
        path.write_bytes(data)
        files.append({"path": str(path), "name": name})
    return decode_files(files, tmp_path / "out")


def one(tmp_path, data, name="a.png"):
    decoded = decode_all(tmp_path, {name: data})
    assert decoded.refused == [] and len(decoded.images) == 1
    with Image.open(tmp_path / "out" / f"{decoded.images[0].id}.png") as picture:
        picture.load()
        return picture, decoded


def zipped(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


# Right colours and right way up.


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_every_format_that_is_promised_is_read(tmp_path, format):
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    picture, decoded = one(tmp_path, encoded(patch((200, 60, 40)), format))
    assert picture.mode == "RGB" and picture.format == "PNG" and picture.info == {}
    assert all(abs(a - b) <= 3 for a, b in zip(picture.getpixel((20, 15)), (200, 60, 40), strict=True))
    assert (tmp_path / "out" / f"{decoded.images[0].id}.jpg").exists()


def test_sixteen_bits_are_scaled_and_do_not_turn_white(tmp_path):
    values = [0, 257, 32768, 40000, 65535] * 8
    grey = Image.frombytes("I;16", (40, 30), struct.pack("<40H", *values) * 30)
    picture, _ = one(tmp_path, encoded(grey))
    assert [picture.getpixel((x, 0))[0] for x in range(5)] == [0, 1, 128, 156, 255]


def test_transparent_pictures_stand_on_white(tmp_path):
    half = Image.new("RGBA", (40, 30), (255, 0, 0, 128))
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    assert one(tmp_path, encoded(half))[0].getpixel((0, 0)) == (255, 127, 127)
    assert one(tmp_path, encoded(clear))[0].getpixel((0, 0)) == WHITE
    grey = Image.new("LA", (40, 30), (0, 0))
    assert one(tmp_path, encoded(grey))[0].getpixel((0, 0)) == WHITE


def test_palettes_keep_their_colours_and_their_transparency(tmp_path):
    picture = Image.new("P", (40, 30), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.paste(2, (0, 0, 10, 10))
    assert one(tmp_path, encoded(picture))[0].getpixel((30, 20)) == RED
    seen, _ = one(tmp_path, encoded(picture, transparency=2))
    assert (seen.getpixel((0, 0)), seen.getpixel((30, 20))) == (WHITE, RED)


def test_cmyk_is_not_inverted(tmp_path):
    cmyk = Image.new("CMYK", (40, 30), (0, 255, 255, 0))
    picture, _ = one(tmp_path, encoded(cmyk, "JPEG", quality=95))
    red, green, blue = picture.getpixel((20, 15))
    assert red > 230 and green < 40 and blue < 40


def test_one_bit_and_grey_pictures_stay_black_white_and_grey(tmp_path):
    assert one(tmp_path, encoded(Image.new("1", (40, 30), 1)))[0].getpixel((0, 0)) == WHITE
    assert one(tmp_path, encoded(Image.new("L", (40, 30), 99)))[0].getpixel((0, 0)) == (99, 99, 99)


def linear_profile():
    """lcms' own sRGB profile with its curve made straight and its name changed: the stored numbers are then linear light."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = profile.index(b"para\0\0\0\0\0\3\0\0") + 12
    straight = struct.pack(">5i", *(int(value * 65536) for value in (1, 1, 0, 1, 0)))
    return (profile[:at] + straight + profile[at + 20 :]).replace("sRGB".encode("utf-16-be"), "Flat".encode("utf-16-be"))


def test_a_colour_profile_is_applied(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same, decoded = one(tmp_path, encoded(patch((120, 60, 40)), icc_profile=srgb))
    assert same.getpixel((0, 0)) == (120, 60, 40) and decoded.notes == []
    lighter, decoded = one(tmp_path, encoded(patch((120, 60, 40)), icc_profile=linear_profile()))
    expected = [round(255 * (1.055 * (value / 255) ** (1 / 2.4) - 0.055)) for value in (120, 60, 40)]
    assert all(abs(a - b) <= 1 for a, b in zip(lighter.getpixel((0, 0)), expected, strict=True)) and decoded.notes == []
    broken, decoded = one(tmp_path, encoded(patch((120, 60, 40)), icc_profile=b"garbage" * 30))
    assert broken.getpixel((0, 0)) == (120, 60, 40) and "colour profile is not valid" in decoded.notes[0]


def test_all_eight_ways_of_holding_a_camera_end_upright(tmp_path):
    upright = Image.new("RGB", (40, 30), "white")
    upright.paste(RED, (0, 0, 10, 10))
    upright.paste(BLUE, (30, 0, 40, 10))
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for orientation, operation in inverse.items():
        stored = upright if operation is None else upright.transpose(Image.Transpose(operation))
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "SECRET-CAMERA"
        exif.get_ifd(0x8825)[1] = "N"
        picture, decoded = one(tmp_path, encoded(stored, exif=exif), f"held {orientation}.png")
        assert picture.tobytes() == upright.tobytes(), f"orientation {orientation}"
        files = [(tmp_path / "out" / f"{decoded.images[0].id}{suffix}").read_bytes() for suffix in (".png", ".jpg")]
        assert all(b"Exif" not in data and b"eXIf" not in data and b"SECRET" not in data for data in files)


def test_the_same_pixels_have_the_same_name_whatever_file_they_came_in(tmp_path):
    decoded = decode_all(tmp_path, {"a.png": encoded(patch()), "b.bmp": encoded(patch(), "BMP"), "c.tiff": encoded(patch(), "TIFF")})
    assert len(decoded.images) == 1
    assert decoded.notes == [f"{name} is the same image as a.png; it was added once." for name in ("b.bmp", "c.tiff")]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_moving_pictures_the_first_frame_is_taken_and_said(tmp_path, format):
    frames = [patch(colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if format == "WEBP" else {}
    picture, decoded = one(tmp_path, encoded(frames[0], format, save_all=True, append_images=frames[1:], **lossless))
    assert picture.getpixel((5, 5)) == RED and "the first one was used" in decoded.notes[0]


def test_photographs_are_told_from_drawings(tmp_path):
    rng = random.Random(1)
    texture = Image.frombytes("RGB", (64, 48), bytes(rng.randrange(256) for _ in range(64 * 48 * 3))).resize((256, 192), Image.Resampling.BICUBIC)
    drawing = Image.new("RGB", (256, 192), (200, 220, 255))
    drawing.paste((120, 180, 90), (0, 120, 256, 192))
    drawing.paste((200, 40, 30), (90, 60, 150, 130))
    decoded = decode_all(tmp_path, {"photo.jpg": encoded(texture, "JPEG"), "drawing.png": encoded(drawing)})
    assert [p.looks_like_photo for p in decoded.images] == [True, False]


# What cannot be used gets one sentence, and the rest goes on.


def hostile():
    png = encoded(patch(size=(200, 150)))
    big = Image.new("1", (13000, 13000))
    trap = Image.new("1", (6000, 6000))
    liar = bytearray(png)
    liar[16:24] = struct.pack(">II", 60000, 60000)
    liar[29:33] = struct.pack(">I", zlib.crc32(bytes(liar[12:29])))
    return {
        "empty.png": (b"", "the file is empty"),
        "cut.png": (png[: len(png) // 2], "truncated or damaged"),
        "page.png": (b"<!DOCTYPE html><script>alert(1)</script>", "web page or SVG"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "web page or SVG"),
        "notes.jpg": (b"hello there " * 50, "not a supported image"),
        "cat.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 50, "HEIC is not supported; save it as JPEG or PNG"),
        "film.mp4": (b"\0\0\0\x18ftypisom" + b"\0" * 50, "it is a video"),
        "layers.psd": (b"8BPS" + b"\0" * 50, "Photoshop"),
        "paper.pdf": (b"%PDF-1.7", "PDF"),
        "big.png": (encoded(big), "the limit of 50 megapixels"),
        "trap.png": (encoded(trap), "look like a decompression bomb"),
        "liar.png": (bytes(liar), "the limit of 50 megapixels"),
        "ribbon.png": (encoded(Image.new("L", (40000, 20))), "a side may have at most 20,000"),
        "tiny.png": (encoded(patch(size=(4, 4))), "only 4 x 4 pixels"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a supported image"),
        "float.tiff": (encoded(Image.new("F", (40, 30), 0.5), "TIFF"), "colour mode F"),
        "pickle.png": (b"\x80\x04\x95\x10\x00", "not a supported image"),
    }


def test_every_file_that_cannot_be_used_has_one_reason_and_the_others_go_on(tmp_path):
    bad = hostile()
    decoded = decode_all(tmp_path, {"first.png": encoded(patch("red")), **{n: d for n, (d, _) in bad.items()}, "last.png": encoded(patch("blue"))})
    assert [p.name for p in decoded.images] == ["first.png", "last.png"]
    reasons = {item["name"]: item["reason"] for item in decoded.refused}
    assert list(reasons) == list(bad) and len(decoded.refused) == len(bad)
    for name, (_, words) in bad.items():
        assert reasons[name].startswith(f"{name}: ") and words in reasons[name], reasons[name]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png", ".jpg"} and len(list((tmp_path / "out").iterdir())) == 4


def test_five_hundred_mutated_files_give_five_hundred_answers(tmp_path):
    rng = random.Random(7)
    source = Image.frombytes("RGB", (48, 36), bytes(rng.randrange(256) for _ in range(48 * 36 * 3)))
    formats = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"] + (["AVIF"] if features.check("avif") else [])
    seeds = [encoded(source, format) for format in formats]
    files = {}
    for index in range(500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        files[f"{index}.png"] = bytes(data[: rng.randrange(20, len(data))] if rng.random() < 0.3 else data)
    decoded = decode_all(tmp_path, files)
    same = sum("is the same image as" in note for note in decoded.notes)
    assert len(decoded.images) + same + len(decoded.refused) == 500
    assert all(item["reason"].startswith(item["name"]) for item in decoded.refused)


KILL = (
    "import sys, os, signal; from studio.datasets.importing import decoder; real = decoder.decode\n"
    """
def decode(data):
    if b'KILL-ME' in data: os.kill(os.getpid(), signal.SIGSEGV)
    if b'HANG' in data:
        while True: pass
    if b'EAT' in data: return bytearray(3 << 30)
    return real(data)
decoder.decode = decode; decoder.main()
"""
)


@pytest.fixture
def fragile_decoder(monkeypatch):
    """The real child, but with a decoder bug that certain bytes set off."""
    monkeypatch.setattr(platform, "module_command", lambda module, *arguments: [sys.executable, "-c", KILL, *map(str, arguments)])


def test_the_decoders_death_refuses_one_file_only(tmp_path, fragile_decoder):
    good = [encoded(patch(colour)) for colour in ("red", "lime", "blue")]
    decoded = decode_all(tmp_path, {"1.png": good[0], "bomb.png": b"KILL-ME", "2.png": good[1], "eater.png": b"EAT", "3.png": good[2]})
    assert [p.name for p in decoded.images] == ["1.png", "2.png", "3.png"]
    assert [item["name"] for item in decoded.refused] == ["bomb.png", "eater.png"]
    assert "malicious" in decoded.refused[0]["reason"] and "too much memory" in decoded.refused[1]["reason"]


def test_a_death_inside_an_archive_costs_that_member_only(tmp_path, fragile_decoder):
    members = [(f"{n}.png", encoded(patch((n * 20, 0, 0)))) for n in range(6)]
    members[2:2] = [("bomb.png", b"KILL-ME")]
    members += [("bomb2.png", b"KILL-ME"), ("cap.txt", "a caption")]
    decoded = decode_all(tmp_path, {"set.zip": zipped(members)})
    assert [p.name for p in decoded.images] == [f"set.zip/{n}.png" for n in range(6)]
    assert [item["name"] for item in decoded.refused] == ["set.zip/bomb.png", "set.zip/bomb2.png"]
    assert decoded.captions == {"set.zip/cap": "a caption"}


def test_a_file_that_never_ends_is_given_up(tmp_path, fragile_decoder, monkeypatch):
    monkeypatch.setattr(images, "SECONDS_PER_IMAGE", 1.5)
    decoded = decode_all(tmp_path, {"hang.png": b"HANG", "good.png": encoded(patch())})
    assert [p.name for p in decoded.images] == ["good.png"]
    assert "took more than 1.5 seconds" in decoded.refused[0]["reason"]


def test_the_child_has_no_secrets_and_is_limited(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(k["env"]) or real(*a, **k))
    one(tmp_path, encoded(patch()))
    assert len(started) == 1 and "hf_canary" not in str(started[0])
    if platform.LINUX:
        code = "from studio.datasets.importing import decoder; decoder.platform.limit_self(decoder.MEMORY, 1); bytearray(2 << 30)"
        assert b"MemoryError" in subprocess.run([sys.executable, "-c", code], capture_output=True, env=platform.environment()).stderr


def test_the_largest_picture_that_is_allowed_fits_into_the_childs_memory(tmp_path):
    noisy = Image.effect_noise((1000, 1000), 90).convert("RGBA").resize((7000, 7000), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noisy, "TIFF", exif=exif)
    decoded = decode_all(tmp_path, {"poster.tiff": data})
    assert decoded.refused == [] and (decoded.images[0].width, decoded.images[0].height) == (7000, 7000)


# Archives.


def test_captions_find_the_picture_beside_them_in_each_folder(tmp_path):
    archive = zipped([
        ("dogs/rex.png", encoded(patch("red"))), ("dogs/rex.txt", "a red dog"),
        ("cats/rex.png", encoded(patch("blue"))), ("cats/rex.txt", "\ufeffa blue cat"),
        ("Upper.PNG", encoded(patch("lime"))), ("upper.txt", "a green one"),
    ])  # fmt: skip
    decoded = decode_all(tmp_path, {"set.zip": archive, "loose.png": encoded(patch("white")), "loose.txt": "naïve".encode("cp1252")})
    assert [p.caption for p in decoded.images] == ["a red dog", "a blue cat", "a green one", "naïve"]


def test_names_in_an_archive_never_become_paths(tmp_path):
    names = ["../../evil.png", "/abs.png", "..\\..\\win.png", "C:\\x.png", "a" * 300 + ".png", "nul\u202egnp.png", "A.png", "a.png", "a.png"]
    members = [(name, encoded(patch((i * 20, 9, 9)))) for i, name in enumerate(names)]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for name, content in members:
            archive.writestr(name, content)
    before = set(tmp_path.parent.rglob("*"))
    decoded = decode_all(tmp_path, {"set.zip": data.getvalue()})
    assert len(decoded.images) == len(names) and decoded.refused == []
    new = {path for path in set(tmp_path.parent.rglob("*")) - before if path.is_file()}
    assert {path.parent for path in new} <= {tmp_path / "out", tmp_path}
    assert all("\u202e" not in p.name and len(p.name) < 200 for p in decoded.images)


def test_links_devices_clutter_nested_and_locked_members_are_left_out(tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("folder/", "")
        archive.writestr("__MACOSX/._a.png", b"junk")
        archive.writestr(".DS_Store", b"junk")
        archive.writestr("Thumbs.db", b"junk")
        archive.writestr("inner.zip", zipped([("x.png", encoded(patch()))]))
        archive.writestr("good.png", encoded(patch()))
    locked = bytearray(zipped([("locked.png", encoded(patch("blue")))]))
    locked[6] |= 1
    locked[locked.rfind(b"PK\1\2") + 8] |= 1
    decoded = decode_all(tmp_path, {"set.zip": data.getvalue(), "locked.zip": bytes(locked)})
    assert [p.name for p in decoded.images] == ["set.zip/good.png"]
    reasons = " ".join(item["reason"] for item in decoded.refused)
    assert len(decoded.refused) == 3
    assert all(words in reasons for words in ("it is a link", "nested archives", "encrypted"))
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_archives_that_unpack_to_floods_are_stopped(tmp_path, folder):
    bomb = zipped([("bomb.bmp", bytes(100 << 20)), ("good.png", encoded(patch()))])
    crowd = io.BytesIO()
    with zipfile.ZipFile(crowd, "w") as archive:
        for index in range(zip_reader.MOST_MEMBERS + 1):
            archive.writestr(f"{index}.txt", "")
    decoded = decode_all(tmp_path, {"bomb.zip": bomb, "crowd.zip": crowd.getvalue(), "cut.zip": bomb[:5000], "good.png": encoded(patch("blue"))})
    assert [p.name for p in decoded.images] == ["bomb.zip/good.png", "good.png"]
    reasons = {item["name"]: item["reason"] for item in decoded.refused}
    assert "at most 100 times are allowed" in reasons["bomb.zip/bomb.bmp"]
    assert "more than 2,000 files" in reasons["crowd.zip"] and "truncated" in reasons["cut.zip"]


def test_what_an_archive_unpacks_to_is_counted_while_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(zip_reader, "MOST_BYTES", 3 << 20)
    path = folder / "many.zip"
    path.write_bytes(zipped([(f"{n}.txt", os.urandom(1 << 20)) for n in range(5)]))
    archive = zip_reader.Archive(path)
    with pytest.raises(zip_reader.StudioError, match="more than 0 GB"):
        for member in archive:
            member.read()
    assert archive.left >= -zip_reader.CHUNK


# Captions.


def test_caption_files_may_be_in_any_usual_encoding_but_not_endless(tmp_path):
    decoded = decode_all(
        tmp_path,
        {
            "utf8.txt": "café".encode(),
            "utf16.txt": "café".encode("utf-16"),
            "latin.txt": "café".encode("latin-1"),
            "endless.txt": b"x" * 2_000_000,
        },
    )
    assert decoded.captions == {"utf8": "café", "utf16": "café", "latin": "café"}
    assert "at most 1024 kB" in decoded.refused[0]["reason"]


def test_clean_text_keeps_words_and_drops_what_cannot_be_seen():
    assert clean_text("a\u200bb \u2067c\u2069 \x1b]0;title\x07d") == "ab c d"


def test_the_parent_never_imports_a_decoder():
    modules = "studio.datasets.importing.images, studio.datasets.dataset, studio.jobs.queue, studio.jobs.worker, studio.datasets.captioners"
    code = f"import sys; import {modules}; print('PIL' in sys.modules, 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=platform.environment(), check=True)
    assert output.stdout.split() == ["False", "False"]


def test_the_module_that_decodes_is_not_imported_by_any_other():
    importers = [
        p.name
        for p in Path(decoder.__file__).parent.rglob("*.py")
        if "studio.datasets.importing.decoder import" in p.read_text() or "import decoder" in p.read_text()
    ]
    assert importers == []
