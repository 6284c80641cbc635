"""A dataset keeps what people made: pictures come back from the trash, captions from their history, and no captioner writes over a hand."""

import json
import multiprocessing
import time
import zipfile

import pytest
from PIL import Image

from studio import config
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset, TriggerConflict
from studio.datasets.importing.images import decode_files
from studio.runs.creation import create_run


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "owner", "owner")


def draw(folder, name, colour, caption=None):
    path = folder / name
    Image.new("RGB", (48, 32), colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def bring(dataset, *paths):
    with dataset.incoming() as folder:
        return dataset.add(decode_files([{"path": path, "name": path.name} for path in paths], folder), folder)


@pytest.fixture(scope="module")
def decoded_once(tmp_path_factory):
    """Three pictures in a dataset, decoded once for the whole file; tests copy the folder."""
    folder = tmp_path_factory.mktemp("brought")
    paths = [draw(folder, f"{name}.png", name, caption) for name, caption in (("red", "a red card"), ("green", None), ("blue", None))]
    dataset = Dataset.create(Workspace(folder / "owner", "owner"), "Cards", trigger_word="ohwx")
    result = bring(dataset, *paths, folder / "red.txt")
    assert (result["added"], result["captions"], result["refused"], result["notes"]) == (3, 1, [], [])
    return dataset


@pytest.fixture
def dataset(workspace, decoded_once):
    import shutil

    shutil.copytree(decoded_once.path, workspace.dataset_path(decoded_once.id))
    return Dataset.open(workspace, decoded_once.id)


def test_pictures_keep_their_order_name_size_and_caption(dataset):
    red, green, blue = dataset.images
    assert [p.name for p in (red, green, blue)] == ["red.png", "green.png", "blue.png"]
    assert (red.caption, red.caption_source, red.width, red.height) == ("a red card", "file", 48, 32)
    assert (green.caption, green.caption_source) == ("", "")
    with Image.open(red.file) as picture, Image.open(red.thumb) as thumb:
        assert picture.getpixel((0, 0)) == (255, 0, 0) and thumb.size == (48, 32)


def test_a_picture_that_is_there_already_is_said_and_not_added_twice(dataset, tmp_path):
    again = draw(tmp_path, "copy of red.png", "red")
    result = bring(dataset, again)
    assert result["added"] == 0 and len(dataset.images) == 3
    assert "copy of red.png is the same image as red.png" in result["notes"][0]


def test_removed_pictures_can_be_restored_with_their_captions(dataset):
    red = dataset.images[0]
    assert dataset.remove([red.id]) == 1
    assert [p.name for p in dataset.images] == ["green.png", "blue.png"]
    assert [p.name for p in dataset.removed] == ["red.png"] and dataset.removed[0].file.exists()
    assert dataset.restore([red.id]) == 1
    assert dataset.images[0] == red and red.file.exists()


def test_bringing_a_removed_picture_again_restores_it(dataset, tmp_path):
    red = dataset.images[0]
    dataset.remove([red.id])
    result = bring(dataset, draw(tmp_path, "red.png", "red"))
    assert "had been removed; it was restored" in result["notes"][0]
    assert len(dataset.images) == 3 and dataset.removed == [] and dataset.images[0].file.exists()


def test_a_caption_file_finds_the_picture_that_came_earlier(dataset, tmp_path):
    (tmp_path / "green.txt").write_text("a green card")
    (tmp_path / "nobody.txt").write_text("lost")
    result = bring(dataset, tmp_path / "green.txt", tmp_path / "nobody.txt")
    assert dataset.images[1].caption == "a green card"
    assert result["captions"] == 1 and "nobody.txt matches no image by name" in result["notes"][0]


def test_a_caption_file_never_writes_over_a_hand_and_that_is_said(dataset, tmp_path):
    red, green, blue = dataset.images
    dataset.set_caption(red.id, "my words")
    dataset.set_caption(green.id, "my green")
    for name, text in (("red", "a red card"), ("green", "my  green"), ("blue", "a blue card")):
        (tmp_path / f"{name}.txt").write_text(text)
    result = bring(dataset, *(tmp_path / f"{name}.txt" for name in ("red", "green", "blue")))
    assert [(p.caption, p.caption_source) for p in dataset.images] == [("my words", "hand"), ("my green", "hand"), ("a blue card", "file")]
    assert result["captions"] == 1 and result["notes"] == ["1 caption that you typed was kept. Clear it first to import the one in the file."]
    dataset.set_caption(red.id, "")
    dataset.set_caption(blue.id, "my blue")
    dataset.set_caption(green.id, "my other green")
    result = bring(dataset, *(tmp_path / f"{name}.txt" for name in ("red", "green", "blue")))
    assert [p.caption for p in dataset.images] == ["a red card", "my other green", "my blue"]
    assert result["notes"] == ["2 captions that you typed were kept. Clear them first to import those in the files."]


def test_a_captioner_never_writes_over_what_a_person_made(dataset):
    red, green, blue = dataset.images
    assert not dataset.set_caption(red.id, "machine words", "blip"), "it came in a file"
    assert dataset.set_caption(green.id, "my words", "hand")
    assert not dataset.set_caption(green.id, "machine words", "blip")
    assert dataset.set_caption(blue.id, "machine words", "builtin")
    assert dataset.set_caption(blue.id, "better machine words", "blip")
    assert dataset.set_caption(blue.id, "my own", "hand")
    assert [p.caption for p in dataset.images] == ["a red card", "my words", "my own"]


def test_a_caption_emptied_by_hand_may_be_filled_again(dataset):
    red = dataset.images[0]
    dataset.set_caption(red.id, "", "hand")
    assert dataset.set_caption(red.id, "machine words", "blip")


def test_undo_walks_back_through_every_change(dataset):
    green = dataset.images[1].id
    for text in ("one", "two", "three"):
        dataset.set_caption(green, text)
    assert [dataset.undo_caption(green) for _ in range(4)] == ["two", "one", "", ""]
    dataset.set_caption(green, "four")
    assert dataset.undo_caption(green) == ""


def race(path, source, count, start):
    dataset = Dataset(path)
    start.wait()
    for n in range(count):
        for picture in dataset.images:
            dataset.set_caption(picture.id, f"{source} {n}", source)


def test_typing_and_captioning_at_the_same_time_loses_no_line_and_the_hand_wins(dataset):
    context = multiprocessing.get_context("fork")
    for picture in dataset.images:
        dataset.set_caption(picture.id, "", "hand")
    start = context.Barrier(4)
    racers = [context.Process(target=race, args=(dataset.path, source, 15, start)) for source in ("hand", "blip", "blip", "hand")]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    changes = [json.loads(line) for line in (dataset.path / "captions.jsonl").read_text().splitlines()]
    for picture in dataset.images:
        sources = [change["source"] for change in changes if change["id"] == picture.id and change["text"]]
        sources = sources[1:] if sources[0] == "file" else sources
        assert "blip" not in sources[sources.index("hand") :], "the look and the write are one"
    assert all(p.caption_source == "hand" and p.caption == "hand 14" for p in dataset.images)


def test_a_line_cut_in_two_by_a_power_loss_costs_only_itself(dataset):
    green = dataset.images[1].id
    dataset.set_caption(green, "kept")
    with open(dataset.path / "captions.jsonl", "ab") as file:
        file.write(b'{"id": "half')
    assert dataset.images[1].caption == "kept"
    dataset.set_caption(green, "after")
    assert dataset.images[1].caption == "after"


def test_a_caption_is_saved_quickly_enough_for_every_pause_in_typing(dataset):
    ids = [p.id for p in dataset.images]
    history = dataset._captions
    for n in range(500):
        history._append({"id": ids[n % 3], "text": f"long history {n}", "source": "hand", "time": 0})
    began = time.perf_counter()
    for n in range(20):
        dataset.set_caption(ids[0], f"typed {n}")
    assert (time.perf_counter() - began) / 20 < 0.05


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("a\x00b\x1b[31mred\x1b[0m\tc", "abred c"),
        ("\u202egnp.exe\u202c and \ufeffmore", "gnp.exe and more"),
        ("two\nlines\u2028three", "two lines three"),
        ("naïve 漢字 👩‍🎨 سلام", "naïve 漢字 👩‍🎨 سلام"),
        ("x" * 10_000_000, "x" * 2000),
        ("<script>alert(1)</script>: {a}", "<script>alert(1)</script>: {a}"),
    ],
)
def test_captions_are_one_visible_line(dataset, typed, kept):
    green = dataset.images[1].id
    dataset.set_caption(green, typed)
    assert dataset.images[1].caption == kept


def test_the_hash_follows_captions_and_pictures_but_not_their_order(dataset):
    before = dataset.sha256()
    listing = json.loads((dataset.path / "pictures.json").read_text())
    (dataset.path / "pictures.json").write_text(json.dumps(listing[::-1]))
    assert dataset.sha256() == before
    dataset.set_caption(dataset.images[0].id, "other words")
    changed = dataset.sha256()
    assert changed != before
    dataset.remove([dataset.images[0].id])
    assert dataset.sha256() not in (before, changed)


def test_the_export_is_what_other_trainers_read_and_comes_back_the_same(dataset, workspace, tmp_path):
    dataset.export(tmp_path / "one.zip")
    dataset.export(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.read("001-red.txt") == b"a red card\n"
    back = Dataset.create(workspace, "Back again")
    result = bring(back, tmp_path / "one.zip")
    assert result["added"] == 3 and back.sha256() == dataset.sha256()


def test_a_real_person_needs_consent_in_words_and_it_is_kept_with_the_date(workspace):
    with pytest.raises(StudioError, match="State that they agreed"):
        Dataset.create(workspace, "Ada", "character", real_person=True)
    dataset = Dataset.create(workspace, "Ada", "character", real_person=True, consent="Ada agreed by letter")
    assert dataset.consent == {"text": "Ada agreed by letter", "date": time.strftime("%Y-%m-%d")}
    dataset.update_facts(title="Ada L.")
    dataset.update_facts(title="  ")
    assert dataset.title == "Ada L." and dataset.consent["text"] == "Ada agreed by letter"
    with pytest.raises(StudioError, match="choose one of style, character, object"):
        dataset.update_facts(subject="weapon")


def test_only_plain_ids_open_a_dataset(workspace):
    for bad in ("../other", "/etc/passwd", "", "a" * 300):
        with pytest.raises(StudioError):
            Dataset.open(workspace, bad)


def test_the_trigger_word_is_put_into_every_caption_that_lacks_it_and_taken_out_at_once(workspace):
    dataset = Dataset.from_samples(workspace, "character")
    before = [image.caption for image in dataset.images]
    first, second, third = dataset.images[:3]
    for image, text in ((first, "a small dog"), (second, "two desks"), (third, "")):
        dataset.set_caption(image.id, text)
    count, batch = dataset.put_trigger_into_captions()
    assert count == 2 and dataset.lacking_trigger == []
    assert [image.caption for image in dataset.images] == ["sks, a small dog", "sks, two desks", "", *before[3:]]
    assert dataset.undo_captions(batch) == (2, 0)
    assert [image.caption for image in dataset.images] == ["a small dog", "two desks", "", *before[3:]]


def test_images_of_a_real_person_are_not_trained_on_before_the_consent_is_stated(workspace):
    dataset = Dataset.from_samples(workspace, "character")
    dataset.set_person(True)
    dataset.update_facts(title="Ada", subject="character")
    assert (dataset.title, dataset.real_person, dataset.consent) == ("Ada", True, None)
    with pytest.raises(StudioError, match="Confirm under Images & captions that this person agreed"):
        create_run(workspace, config.build({}, f"dataset.id={dataset.id}"), dataset)
    dataset.set_person(True, "Ada agreed by letter")
    assert dataset.consent == {"text": "Ada agreed by letter", "date": time.strftime("%Y-%m-%d")}
    dataset.set_person(False, "Ada agreed by letter")
    assert (dataset.real_person, dataset.consent) == (False, None)


def test_a_trigger_word_that_was_changed_elsewhere_is_not_overwritten(workspace):
    dataset = Dataset.from_samples(workspace, "character")
    dataset.set_trigger_word("theirs", base="sks")
    with pytest.raises(TriggerConflict, match="changed elsewhere to 'theirs'"):
        dataset.set_trigger_word("mine", base="sks")
    dataset.set_trigger_word("theirs", base="sks")
    assert dataset.trigger_word == "theirs"
    dataset.set_trigger_word("mine")
    assert dataset.trigger_word == "mine"
