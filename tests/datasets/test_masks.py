"""Masks say what teaches: found by name, refused with a reason, kept beside the picture, taken back, and obeyed by the loss."""

import hashlib
import io
import json
import random
import stat
import sys
import time
import zipfile

import pytest
from PIL import Image, ImageDraw

from studio import config
from studio.core import platform
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.datasets.importing import matching
from studio.datasets.importing.images import decode_files
from studio.datasets.importing.mask_names import masked_stems
from studio.datasets.masks import Masks
from studio.runs.creation import create_run


def encoded(picture, format="PNG", **how):
    data = io.BytesIO()
    picture.save(data, format=format, **how)
    return data.getvalue()


def card(colour="red", size=(64, 48)):
    return encoded(Image.new("RGB", size, colour))


def half(size=(64, 48), mode="L"):
    """A mask whose left half teaches."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return encoded(mask.convert(mode))


def zipped(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def decode_all(tmp_path, named_bytes, existing=(), **extra):
    files = []
    for index, (name, data) in enumerate(named_bytes.items()):
        path = tmp_path / f"upload-{index}"
        path.write_bytes(data)
        files.append({"path": str(path), "name": name, **extra})
    return decode_files(files, tmp_path / "out", existing=existing)


def pairs(decoded):
    """name of each picture that came -> name of its mask."""
    names = {picture.id: picture.name for picture in decoded.images}
    return {names[id]: mask.name for id, mask in decoded.masks.items()}


def seen(tmp_path, mask):
    with Image.open(tmp_path / "out" / f"mask-{mask.id}.png") as opened:
        opened.load()
        return opened


@pytest.fixture
def bring(tmp_path):
    def bring(dataset, named_bytes, **extra):
        with dataset.incoming() as folder:
            files = []
            for index, (name, data) in enumerate(named_bytes.items()):
                path = tmp_path / f"brought-{index}"
                path.write_bytes(data)
                files.append({"path": str(path), "name": name, **extra})
            return dataset.add(decode_files(files, folder, existing=dataset.images), folder)

    return bring


@pytest.fixture
def dataset(workspace, bring):
    """A red card with a mask, a blue one without."""
    dataset = Dataset.create(workspace, "Cards")
    came = bring(dataset, {"red.png": card("red"), "red-mask.png": half(), "blue.png": card("blue")})
    assert (came["added"], came["masks"], came["refused"]) == (2, 1, [])
    assert came["notes"] == ["1 image got a mask. Only the light parts are trained on."]
    return dataset


# By name.


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("rex-masklabel.png", ["rex"]),
        ("rex.mask.png", ["rex"]),
        ("rex-mask.png", ["rex"]),
        ("Rex_MASK.PNG", ["Rex"]),
        ("two.dots-mask.webp", ["two.dots"]),
        ("set.zip/dogs/rex-mask.png", ["set.zip/dogs/rex"]),
        ("set.zip/masks/rex.png", ["set.zip/rex"]),
        ("set.zip/dogs/Mask/rex.png", ["set.zip/dogs/rex"]),
        ("set.zip/masks/dogs/rex.png", ["set.zip/dogs/rex"]),
        ("set.zip/masks/rex-mask.png", ["set.zip/rex-mask", "set.zip/rex"]),
        ("rex.png", []),
        ("mask.png", []),
        ("-mask.png", []),
        ("unmasked.png", []),
        ("masks/rex.png", []),
        ("mask.zip/rex.png", []),
        ("masked/rex.png", []),
    ],
)
def test_a_name_or_a_folder_in_an_archive_says_what_is_a_mask(name, stems):
    assert masked_stems(name) == stems


def test_every_usual_name_finds_its_picture(tmp_path):
    files = {f"{colour}.png": card(colour) for colour in ("red", "lime", "blue", "white")}
    files |= {"red-masklabel.png": half(), "lime.mask.png": half(), "BLUE-mask.jpg": encoded(Image.open(io.BytesIO(half())), "JPEG")}
    files |= {"white_mask.png": half(mode="RGB")}
    decoded = decode_all(tmp_path, files)
    assert decoded.refused == [] and len(decoded.images) == 4
    assert pairs(decoded) == {"red.png": "red-masklabel.png", "lime.png": "lime.mask.png", "blue.png": "BLUE-mask.jpg", "white.png": "white_mask.png"}


def test_a_mask_may_come_before_its_picture(tmp_path):
    assert pairs(decode_all(tmp_path, {"red-mask.png": half(), "red.png": card()})) == {"red.png": "red-mask.png"}


@pytest.mark.parametrize("folder", ["mask", "masks", "Masks"])
def test_a_folder_of_masks_in_an_archive_belongs_to_the_pictures_beside_it(tmp_path, folder):
    members = {
        "dogs/rex.png": card("red"), f"dogs/{folder}/rex.png": half(),
        "cats/images/rex.png": card("blue"), f"cats/{folder}/rex.png": half((128, 96)),
        "mia.jpg": card("lime"), f"{folder}/mia_mask.png": half(),
    }  # fmt: skip
    decoded = decode_all(tmp_path, {"set.zip": zipped(members)})
    assert decoded.refused == []
    assert pairs(decoded) == {
        "set.zip/dogs/rex.png": f"set.zip/dogs/{folder}/rex.png",
        "set.zip/cats/images/rex.png": f"set.zip/cats/{folder}/rex.png",
        "set.zip/mia.jpg": f"set.zip/{folder}/mia_mask.png",
    }


def test_a_mask_in_one_archive_finds_a_picture_in_another_and_one_that_came_earlier(tmp_path, dataset):
    decoded = decode_all(tmp_path, {"a.zip": zipped({"lime.png": card("lime")}), "b.zip": zipped({"masks/lime.png": half()})})
    assert pairs(decoded) == {"a.zip/lime.png": "b.zip/masks/lime.png"}
    blue = dataset.images[1]
    assert list(decode_all(tmp_path, {"blue-mask.png": half()}, existing=dataset.images).masks) == [blue.id]


def test_a_mask_that_could_belong_to_several_pictures_is_refused_and_not_guessed(tmp_path):
    members = {"a/rex.png": card("red"), "b/rex.png": card("blue"), "c/masks/rex.png": half()}
    decoded = decode_all(tmp_path, {"set.zip": zipped(members)})
    assert decoded.masks == {} and len(decoded.images) == 2
    assert "it matches set.zip/a/rex.png or set.zip/b/rex.png" in decoded.refused[0]["reason"]


def test_a_picture_has_one_mask_however_many_come(tmp_path):
    decoded = decode_all(tmp_path, {"red.png": card(), "red-mask.png": half(), "red.mask.png": half()})
    assert pairs(decoded) == {"red.png": "red-mask.png"}
    assert decoded.refused == [{"name": "red.mask.png", "reason": "red.mask.png: red.png already has the mask red-mask.png."}]


def test_the_mask_of_a_picture_that_came_twice_is_not_lost(tmp_path):
    decoded = decode_all(tmp_path, {"one.png": card(), "two.png": card(), "two-mask.png": half()})
    assert pairs(decoded) == {"one.png": "two-mask.png"} and decoded.refused == []


# What cannot be a mask.


def test_every_mask_that_cannot_be_used_has_one_reason_and_the_rest_goes_on(tmp_path):
    bad = {
        "nobody-mask.png": (half(), "there is no image nobody. If it is a training image, rename it."),
        "black-mask.png": (encoded(Image.new("L", (64, 48), 0)), "completely dark, so nothing would be trained on"),
        "speck-mask.png": (speck(), "completely dark"),
        "cut-mask.png": (half()[:60], "truncated or damaged"),
        "page-mask.png": (b"<html>", "web page"),
        "empty-mask.png": (b"", "the file is empty"),
        "wide-mask.png": (half((96, 48)), "96 x 48 pixels and wide.png 64 x 48, another aspect ratio"),
        "painted-mask.png": (card("orange"), "it has colours"),
        "large-mask.png": (encoded(Image.new("1", (13000, 13000), 1)), "exceeds the limit of 50 megapixels"),
    }
    pictures = {name.replace("-mask", ""): card((index * 20, 99, 99)) for index, name in enumerate(bad) if name != "nobody-mask.png"}
    decoded = decode_all(tmp_path, pictures | {name: data for name, (data, _) in bad.items()} | {"red.png": card(), "red-mask.png": half()})
    reasons = {item["name"]: item["reason"] for item in decoded.refused}
    assert sorted(reasons) == sorted(bad) and len(decoded.refused) == len(bad)
    for name, (_, words) in bad.items():
        assert reasons[name].startswith(f"{name}: ") and words in reasons[name], reasons[name]
    assert len(decoded.images) == len(bad) and pairs(decoded) == {"red.png": "red-mask.png"}


def speck():
    mask = Image.new("L", (640, 480), 0)
    mask.paste(255, (0, 0, 9, 9))
    return encoded(mask)


def test_names_and_kinds_in_an_archive_are_as_harmless_for_masks(tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.png", card())
        archive.writestr("../../masks/a.png", half())
        archive.writestr("/etc/b-mask.png", half())
        archive.writestr("..\\..\\masks\\c.png", half())
        archive.writestr("masks/" + "d" * 300 + ".png", half())
        link = zipfile.ZipInfo("a-mask.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    before = set(tmp_path.parent.rglob("*"))
    decoded = decode_all(tmp_path, {"set.zip": data.getvalue()})
    assert pairs(decoded) == {"set.zip/a.png": "set.zip/../../masks/a.png"} and len(decoded.refused) == 4
    new = {path for path in set(tmp_path.parent.rglob("*")) - before if path.is_file()}
    assert {path.parent for path in new} <= {tmp_path / "out", tmp_path} and not any(path.is_symlink() for path in new)


def test_a_long_path_in_front_does_not_turn_a_mask_into_a_picture(tmp_path):
    deep = "x" * 150
    decoded = decode_all(tmp_path, {"set.zip": zipped({f"{deep}/rex.png": card(), f"masks/{deep}/rex.png": half()})})
    assert len(decoded.images) == 1 and len(decoded.masks) == 1


def test_two_hundred_mutated_masks_give_two_hundred_answers(tmp_path):
    rng = random.Random(7)
    seeds = [encoded(Image.open(io.BytesIO(half())), format) for format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    files = {"red.png": card()}
    for index in range(200):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        files[f"{index}-mask.png"] = bytes(data[: rng.randrange(20, len(data))] if rng.random() < 0.3 else data)
    decoded = decode_all(tmp_path, files)
    assert len(decoded.images) == 1 and len(decoded.refused) == 200


# As large as the picture, grey, the right way up.


def test_a_mask_is_kept_grey_and_as_large_as_its_picture(tmp_path):
    decoded = decode_all(tmp_path, {"red.png": card(size=(64, 48)), "red-mask.png": half((129, 96), "RGB")})
    (mask,) = decoded.masks.values()
    kept = seen(tmp_path, mask)
    assert (kept.mode, kept.size, kept.info) == ("L", (64, 48), {})
    assert (kept.getpixel((3, 20)), kept.getpixel((60, 20))) == (255, 0)
    assert decoded.notes == ["1 mask differed in size from its image and was scaled."]


def test_the_decoders_death_while_it_scales_a_mask_refuses_that_mask_only(tmp_path, monkeypatch):
    dies = "import os, sys; from studio.datasets.importing import decoder; decoder.scale_mask = lambda *_: os.abort(); decoder.main()"
    monkeypatch.setattr(platform, "module_command", lambda module, *arguments: [sys.executable, "-c", dies, *map(str, arguments)])
    files = {"red.png": card("red"), "red-mask.png": half((128, 96)), "blue.png": card("blue"), "blue-mask.png": half()}
    decoded = decode_all(tmp_path, files)
    assert pairs(decoded) == {"blue.png": "blue-mask.png"} and len(decoded.images) == 2
    assert [item["name"] for item in decoded.refused] == ["red-mask.png"] and decoded.notes == []


def test_sixteen_bits_one_bit_and_a_painted_layer_are_masks_too(tmp_path):
    layer = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    ImageDraw.Draw(layer).rectangle((0, 0, 31, 47), fill="white")
    deep = Image.open(io.BytesIO(half())).convert("I").point(lambda value: value * 257).convert("I;16")
    files = {"a.png": card("red"), "a-mask.png": encoded(deep), "b.png": card("lime"), "b-mask.png": half(mode="1")}
    files |= {"c.png": card("blue"), "c-mask.png": encoded(layer)}
    decoded = decode_all(tmp_path, files)
    assert decoded.refused == [] and len({mask.id for mask in decoded.masks.values()}) == 1
    assert seen(tmp_path, next(iter(decoded.masks.values()))).tobytes() == Image.open(io.BytesIO(half())).tobytes()


def test_the_mask_of_a_large_photograph_is_no_trap_however_small_its_file(tmp_path):
    data = encoded(Image.new("1", (6000, 4000), 1))
    assert len(data) < 20_000
    rough = Image.effect_noise((600, 400), 90).resize((6000, 4000), Image.Resampling.NEAREST)
    decoded = decode_all(tmp_path, {"photo.png": encoded(rough, compress_level=1), "photo-mask.png": data})
    assert decoded.refused == [] and len(decoded.masks) == 1


def test_the_largest_transparent_picture_fits_into_the_childs_memory(tmp_path):
    noisy = Image.effect_noise((1000, 1000), 90).convert("RGBA")
    noisy.putalpha(Image.effect_noise((1000, 1000), 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_all(tmp_path, {"poster.tiff": encoded(noisy.resize((7000, 7000), Image.Resampling.NEAREST), "TIFF", exif=exif)})
    assert decoded.refused == [] and len(decoded.masks) == 1


# Transparency.


def glass(holes=True, size=(64, 48)):
    picture = Image.new("RGBA", size, (255, 0, 0, 255))
    if holes:
        picture.paste((0, 0, 255, 0), (size[0] // 2, 0, *size))
    return picture


def test_what_is_transparent_does_not_teach_and_that_is_said(workspace, bring):
    dataset = Dataset.create(workspace, "Glass")
    came = bring(dataset, {"glass.png": encoded(glass()), "opaque.png": encoded(glass(holes=False))})
    assert came["masks"] == 1 and came["notes"][0].startswith("1 image has transparent parts. They are not trained on")
    first, second = dataset.images
    assert second.mask is None
    with Image.open(first.file) as picture, Image.open(first.mask) as mask:
        assert (picture.getpixel((60, 5)), picture.getpixel((3, 5))) == ((255, 255, 255), (255, 0, 0))
        assert mask.mode == "L" and mask.tobytes() == Image.open(io.BytesIO(half())).tobytes()


def test_transparency_turns_upright_with_its_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_all(tmp_path, {"held.png": encoded(glass(), exif=exif)})
    kept = seen(tmp_path, next(iter(decoded.masks.values())))
    assert kept.size == (48, 64) and (kept.getpixel((20, 3)), kept.getpixel((20, 60))) == (255, 0)


def test_rounding_is_no_transparency_and_a_picture_of_nothing_keeps_no_mask(tmp_path):
    nearly = glass(holes=False)
    nearly.putalpha(254)
    decoded = decode_all(tmp_path, {"nearly.png": encoded(nearly), "clear.png": encoded(Image.new("RGBA", (64, 48), (0, 0, 0, 0)))})
    assert decoded.masks == {} and len(decoded.images) == 2
    assert decoded.notes == ["clear.png: it is fully transparent, so its alpha channel is not used as a mask."]


def test_a_mask_file_counts_more_than_transparency(tmp_path):
    decoded = decode_all(tmp_path, {"glass.png": encoded(glass()), "glass-mask.png": encoded(Image.new("L", (64, 48), 255))})
    assert pairs(decoded) == {"glass.png": "glass-mask.png"}
    assert decoded.notes == ["glass.png has transparent parts and the mask glass-mask.png; the mask file is used."]


def test_transparency_does_not_come_back_after_its_mask_was_taken_off(workspace, bring):
    dataset = Dataset.create(workspace, "Glass")
    bring(dataset, {"glass.png": encoded(glass())})
    picture = dataset.images[0]
    dataset.remove_mask(picture.id)
    bring(dataset, {"glass.png": encoded(glass())})
    assert dataset.mask(picture.id) is None
    bring(dataset, {"glass-mask.png": half()})
    assert dataset.mask(picture.id) is not None, "a file says it explicitly"


# In a dataset.


def test_a_mask_brought_for_one_picture_is_its_mask_whatever_it_is_called(dataset, bring):
    red, blue = dataset.images
    came = bring(dataset, {"untitled.png": half()}, mask_of=blue.id)
    assert (came["added"], came["masks"], came["refused"]) == (0, 1, []) and dataset.mask(blue.id) == dataset.mask(red.id)
    dataset.set_caption(red.id, "mine", "file")
    for files in ({"set.zip": zipped({"a.png": half()})}, {"photo.png": card("orange")}, {"red.txt": b"words"}):
        before = dataset.sha256()
        came = bring(dataset, files, mask_of=blue.id)
        assert (came["added"], came["masks"], dataset.sha256()) == (0, 0, before)
    gone = bring(dataset, {"untitled.png": half()}, mask_of="0" * 64)
    assert "no longer in the dataset" in gone["refused"][0]["reason"]


def test_a_mask_goes_and_comes_back_with_its_picture(dataset):
    red = dataset.images[0]
    dataset.remove([red.id])
    assert dataset.mask(red.id) is None
    dataset.restore([red.id])
    assert dataset.mask(red.id) == red.mask and red.mask.exists()


def test_a_mask_that_was_taken_off_or_replaced_can_be_put_back(dataset, bring):
    red = dataset.images[0]
    first = red.mask
    bring(dataset, {"red-mask.png": encoded(Image.new("L", (64, 48), 200))})
    second = dataset.mask(red.id)
    assert second != first and dataset.remove_mask(red.id) and not dataset.remove_mask(red.id)
    assert dataset.mask(red.id) is None and dataset.images[0].mask_can_undo
    assert [dataset.undo_mask(red.id) for _ in range(4)] == [second, first, None, None]
    with pytest.raises(Exception, match="no longer in the dataset"):
        dataset.remove_mask("0" * 64)


def test_the_same_mask_again_is_said_and_changes_nothing(dataset, bring):
    before = (dataset.path / "masks.jsonl").read_bytes()
    came = bring(dataset, {"red-mask.png": half()})
    assert came["masks"] == 0 and came["notes"] == ["red.png already has the mask red-mask.png."]
    assert (dataset.path / "masks.jsonl").read_bytes() == before


def test_half_a_line_of_the_masks_history_costs_only_itself(dataset):
    red = dataset.images[0]
    with open(dataset.path / "masks.jsonl", "ab") as file:
        file.write(b'{"id": "ha')
    assert Masks(dataset.path).of(red.id) == red.mask
    dataset.remove_mask(red.id)
    assert dataset.mask(red.id) is None


def test_the_hash_follows_the_masks(dataset, bring):
    red, blue = dataset.images
    masked = dataset.sha256()
    dataset.remove_mask(red.id)
    bare = dataset.sha256()
    bring(dataset, {"red-mask.png": encoded(Image.new("L", (64, 48), 9))})
    assert len({masked, bare, dataset.sha256()}) == 3
    dataset.remove_mask(red.id)
    assert dataset.sha256() == bare
    bring(dataset, {"blue-mask.png": half()})
    assert dataset.sha256() not in (masked, bare), "the same mask on another picture is another dataset"


def test_an_export_carries_masks_under_onetrainers_name_and_comes_back_the_same(dataset, workspace, bring, tmp_path):
    bring(dataset, {"mask.png": card("lime"), "mask-mask.png": half()})
    dataset.export(tmp_path / "one.zip")
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {name for name in archive.namelist() if "masklabel" in name} == {"001-red-masklabel.png", "003-mask-picture-masklabel.png"}
    back = Dataset.create(workspace, "Back again")
    came = bring(back, {"one.zip": (tmp_path / "one.zip").read_bytes()})
    assert came["refused"][0]["name"].endswith("dataset.json") and len(came["refused"]) == 1
    assert (came["added"], came["masks"]) == (3, 2) and back.sha256() == dataset.sha256()


def test_a_run_keeps_its_masks_when_the_dataset_changes(dataset, workspace):
    red, blue = dataset.images
    for picture in (red, blue):
        dataset.set_caption(picture.id, "a card")
    run = create_run(workspace, config.build({}), dataset)
    listed = {picture["sha256"]: picture for picture in run.snapshot["pictures"]}
    assert "mask" not in listed[blue.id] and run.snapshot["sha256"] == dataset.sha256()
    kept = run.dataset_dir / "pictures" / listed[red.id]["mask"]
    before = red.mask.read_bytes()
    dataset.remove_mask(red.id)
    red.mask.unlink()
    assert kept.read_bytes() == before
    json.dumps(run.snapshot)


def test_an_older_dataset_without_masks_has_the_hash_it_had(tmp_path):
    dataset = Dataset.from_samples(Workspace(tmp_path / "owner", "owner"), "style")
    assert not (dataset.path / "masks.jsonl").exists()
    lines = sorted(json.dumps([picture.id, picture.caption]) for picture in dataset.images)
    assert dataset.sha256() == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_thousand_masks_find_a_thousand_pictures_quickly():
    found = matching.BatchCollector()
    for index in range(1000):
        facts = {"width": 64, "height": 48, "looks_like_photo": False, "mask": None}
        found.add({"kind": "picture", "name": f"set.zip/images/{index}.png", "id": f"{index:064x}", **facts})
        size = {"width": 64, "height": 48}
        found.add({"kind": "mask", "name": f"set.zip/masks/{index}.png", "id": f"m{index}", "of": [f"set.zip/{index}"], **size})
    began = time.perf_counter()
    assert found.pair([]) == [] and len(found.decoded.masks) == 1000 and time.perf_counter() - began < 1
