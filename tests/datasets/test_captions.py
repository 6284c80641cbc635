"""The history of captions: what is one change to a person, and what can be taken back."""

import pytest

from studio.datasets import captions
from studio.datasets.captions import Captions


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
        assert written.set("red", words, "hand", typing=True)
    clock[0] += captions.PAUSE_SECONDS
    written.set("red", "a red square, drawn", "hand", typing=True)
    again = Captions(tmp_path / "captions.jsonl")
    assert again.of("red") == ("a red square, drawn", "hand")
    assert [again.undo("red") for _ in range(4)] == ["a red square", "a red card", "", ""]
    assert Captions(tmp_path / "captions.jsonl").of("red") == captions.NONE


def test_what_is_typed_after_an_undo_is_a_change_of_its_own(tmp_path, clock):
    written = Captions(tmp_path / "captions.jsonl")
    written.set("red", "one", "hand", typing=True)
    written.undo("red")
    written.set("red", "two", "hand", typing=True)
    assert written.undo("red") == ""


def test_two_pictures_are_typed_on_side_by_side(tmp_path, clock):
    written = Captions(tmp_path / "captions.jsonl")
    for words in ("a", "a b", "a b c"):
        written.set("red", words, "hand", typing=True)
        written.set("blue", words.upper(), "hand", typing=True)
    assert (written.of("red"), written.of("blue")) == (("a b c", "hand"), ("A B C", "hand"))
    assert (written.undo("red"), written.undo("blue")) == ("", "")
