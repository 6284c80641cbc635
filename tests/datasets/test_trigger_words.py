"""The trigger word is found, placed and taken out the same way everywhere it is asked for: captions, prompts, film, card."""

import re

import pytest

from studio.datasets.trigger_words import add_trigger, explain_trigger, fill_placeholder, has_word, remove_word, suggest_trigger


@pytest.mark.parametrize(
    ("text", "word", "there"),
    [
        ("sks, a small dog", "sks", True),
        ("two desks and a disk", "sks", False),
        ("TOK light over a hill", "tok", True),
        ("a zorvex dragon by the sea", "zorvex dragon", True),
        ("a zorvex by the sea", "zorvex dragon", False),
        ("anything", "", False),
        ("<sks> on a hill", "<sks>", True),
    ],
)
def test_a_trigger_word_is_found_as_a_word_and_not_as_a_part_of_one(text, word, there):
    assert has_word(text, word) is there


def test_taking_a_word_out_leaves_a_prompt_that_reads_well():
    assert remove_word("ohwx illustration of a cat", "ohwx") == "illustration of a cat"
    assert remove_word("sks, a small dog", "sks") == "a small dog"
    assert remove_word("a dog, Zorvex Dragon, at night", "zorvex dragon") == "a dog, at night"
    assert remove_word("two desks", "sks") == "two desks"


def test_the_trigger_word_replaces_its_place_in_sample_prompts():
    assert fill_placeholder("a [trigger] cat", "ohwx") == "a ohwx cat"
    assert fill_placeholder("[trigger] cat", "") == "cat"


@pytest.mark.parametrize(
    ("caption", "subject", "noun", "photo", "expected"),
    [
        ("a red house on a hill", "style", "", False, "ohwx illustration of a red house on a hill"),
        ("a red house on a hill", "style", "", True, "ohwx photo of a red house on a hill"),
        ("an oil painting of a dog", "style", "", False, "ohwx oil painting of a dog"),
        ("a small brown dog in the snow", "character", "dog", True, "ohwx in the snow"),
        ("a cat and the dog", "character", "dog", True, "a cat and ohwx"),
        ("a doghouse", "character", "dog", True, "ohwx, a doghouse"),
        ("a woman with a hat", "character", "", True, "ohwx, a woman with a hat"),
        ("a mug on a table", "object", "mug", True, "ohwx on a table"),
        ("Ohwx on a table", "object", "mug", True, "Ohwx on a table"),
        ("", "style", "", False, "ohwx"),
    ],
)
def test_the_trigger_word_stands_where_the_subject_wants_it(caption, subject, noun, photo, expected):
    assert add_trigger(caption, "ohwx", subject, photo, noun) == expected
    assert add_trigger(caption, "", subject, photo, noun) == caption


def test_suggested_words_can_be_said_and_every_word_is_explained_and_none_refused():
    words = {suggest_trigger() for _ in range(200)}
    assert len(words) > 150 and all(re.fullmatch(r"[a-z]{5,10}", word) and re.search("[aeiou]", word) for word in words)
    assert "rifle" in explain_trigger("sks") and "common" in explain_trigger("ohwx") and "token" in explain_trigger("TOK")
    assert all(explain_trigger(word) for word in ("", "x", "two words", "zorvex"))
