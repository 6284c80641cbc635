"""History of captions: what is undone as one change, and how two text boxes on one caption stay apart."""

import pytest

from studio.datasets import captions
from studio.datasets.captions import CaptionConflict, Captions, Edit

BOX = Edit("a box")


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(captions.time, "time", lambda: now[0])
    return now


def test_a_sentence_saved_word_by_word_is_taken_back_as_one(tmp_path, clock):
    written = Captions(tmp_path / "captions.jsonl")
    written.set("red", "a red card", "file")
    for words in ("a", "a red", "a red square"):
        clock[0] += 5
        assert written.set("red", words, "hand", BOX)
    clock[0] += captions.PAUSE_SECONDS
    written.set("red", "a red square, drawn", "hand", BOX)
    again = Captions(tmp_path / "captions.jsonl")
    assert again.of("red") == ("a red square, drawn", "hand")
    assert [again.undo("red") for _ in range(4)] == ["a red square", "a red card", "", ""]
    assert Captions(tmp_path / "captions.jsonl").of("red") == captions.NONE


def test_what_is_typed_after_an_undo_is_a_change_of_its_own(tmp_path, clock):
    written = Captions(tmp_path / "captions.jsonl")
    written.set("red", "one", "hand", BOX)
    written.undo("red")
    written.set("red", "two", "hand", BOX)
    assert written.undo("red") == ""


def test_two_pictures_are_typed_on_side_by_side(tmp_path, clock):
    written = Captions(tmp_path / "captions.jsonl")
    for words in ("a", "a b", "a b c"):
        written.set("red", words, "hand", BOX)
        written.set("blue", words.upper(), "hand", BOX)
    assert (written.of("red"), written.of("blue")) == (("a b c", "hand"), ("A B C", "hand"))
    assert (written.undo("red"), written.undo("blue")) == ("", "")


def test_typing_in_another_box_is_another_change(tmp_path, clock):
    written = Captions(tmp_path / "captions.jsonl")
    written.set("red", "from one tab", "hand", Edit("one"))
    written.set("red", "from another tab", "hand", Edit("another"))
    written.set("red", "from another tab, longer", "hand", Edit("another"))
    assert written.undo("red") == "from one tab"


def test_a_stale_text_box_does_not_overwrite_a_newer_caption(tmp_path):
    written = Captions(tmp_path / "captions.jsonl")
    written.set("red", "a red card", "file")
    written.set("red", "newer", "hand", Edit("one", base="a red card"))
    with pytest.raises(CaptionConflict, match="changed elsewhere to 'newer'") as conflict:
        written.set("red", "stale", "hand", Edit("another", base="a red card"))
    assert (conflict.value.text, conflict.value.source, written.of("red")) == ("newer", "hand", ("newer", "hand"))


def test_a_text_box_is_not_in_conflict_with_its_own_lost_answer_nor_with_the_same_text(tmp_path):
    written = Captions(tmp_path / "captions.jsonl")
    assert written.set("red", "a b", "hand", Edit("one", base=""))
    assert written.set("red", "a b c", "hand", Edit("one", base=""))
    assert not written.set("red", " a  b c ", "hand", Edit("another", base=""))
    assert written.set("red", "a b c d", "hand", Edit("another", base="a b c "))


def test_both_texts_of_a_conflict_reach_the_history(tmp_path):
    kept = Captions(tmp_path / "kept.jsonl")
    kept.set("red", "theirs", "blip")
    kept.set("red", "mine", "hand", Edit("one", base="theirs"))
    assert kept.undo("red") == "theirs"

    passed = Captions(tmp_path / "passed.jsonl")
    passed.set("red", "theirs", "blip")
    passed.pass_over("red", "mine")
    assert passed.of("red") == ("theirs", "blip")
    assert [passed.undo("red") for _ in range(2)] == ["mine", "theirs"]


def test_a_journal_without_boxes_joins_its_typing_as_before(tmp_path, clock):
    line = '{{"id": "red", "text": "{}", "source": "hand", "time": {}, "typing": true}}\n'
    (tmp_path / "captions.jsonl").write_text(line.format("a", 1000.0) + line.format("a b", 1010.0))
    assert Captions(tmp_path / "captions.jsonl").undo("red") == ""


def test_a_change_of_many_captions_is_undone_at_once_except_where_one_was_edited_since(tmp_path):
    written = Captions(tmp_path / "captions.jsonl")
    for name, source in (("red", "hand"), ("blue", "blip"), ("green", "file")):
        written.set(name, f"a {name} card", source)
    assert written.change_all({"red": "sks, a red card", "blue": "sks, a blue card", "green": "a green card"}, "batch") == 2
    assert [written.of(name)[1] for name in ("red", "blue")] == ["hand", "blip"], "who wrote them stays"
    written.set("blue", "edited", "hand", BOX)
    again = Captions(tmp_path / "captions.jsonl")
    assert again.undo_all("batch") == (1, 1)
    assert [again.of(name)[0] for name in ("red", "blue", "green")] == ["a red card", "edited", "a green card"]
    assert again.undo("blue") == "sks, a blue card"
