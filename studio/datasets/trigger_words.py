"""The rare word that calls a LoRA: finding it in a text, putting it into one, making one up, and what there is to say about it. No torch."""

import re
import secrets

PLACEHOLDER = "[trigger]"
"""Stands for the dataset's own word in the sample prompts of presets."""


def has_word(text: str, word: str) -> bool:
    """Whether the trigger word (or words) stands in a text as such: "sks" is in "Sks, a dog", not in "two desks"."""
    return bool(word.strip()) and bool(_pattern(word).search(text))


def without_word(text: str, word: str) -> str:
    """The text with the trigger word taken out, and what it leaves of commas and spaces tidied."""
    if not has_word(text, word):
        return text
    return re.sub(r"(?:\s*,)+", ",", " ".join(_pattern(word).sub(" ", text).split())).strip(" ,")


def fill_placeholder(prompt: str, word: str) -> str:
    """A sample prompt with the dataset's own word in place of "[trigger]", so that a preset's prompts fit every trigger word."""
    return " ".join(prompt.replace(PLACEHOLDER, word).split())


def to_placeholder(prompt: str, word: str) -> str:
    """The other way: a prompt written for one trigger word as one that fits every word."""
    return _pattern(word).sub(lambda match: PLACEHOLDER, prompt) if word.strip() else prompt


def _pattern(word: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(word.strip())}(?!\w)", flags=re.IGNORECASE)


MEDIUM = re.compile(r"(?:an? |the )?((?:\w+ )?(?:painting|drawing|illustration|photograph|photo|picture|sketch|cartoon|image|rendering)) of (.+)")


def with_trigger(caption: str, trigger_word: str, subject: str, looks_like_photo: bool = False, class_noun: str = "") -> str:
    """The caption with the trigger word where this subject wants it.

    style: "ohwx illustration of a red house" (or "photo of"; the captioner's own medium, "a painting of", is kept): the word qualifies
    how the picture is made. character and object: the class noun with its article and adjectives becomes the word ("a small dog in the
    snow" -> "sks in the snow") when that noun is known, since whatever else the caption names would not be learned; otherwise the word
    comes first ("sks, a small dog in the snow"). A caption that already has the word stays as it is.
    """
    if not trigger_word or has_word(caption, trigger_word):
        return caption
    if not caption:
        return trigger_word
    if subject == "style":
        named = MEDIUM.fullmatch(caption)
        medium, rest = named.groups() if named else ("photo" if looks_like_photo else "illustration", caption)
        return f"{trigger_word} {medium} of {rest}"
    if class_noun:
        adjectives = r"(?:(?!(?:and|or|with|of|on|in|at|by|an?|the)\b)\w+ ){0,3}?"
        phrase = rf"\b(?:an?|the|one) {adjectives}{re.escape(class_noun)}\b|\b{re.escape(class_noun)}\b"
        replaced, count = re.subn(phrase, lambda match: trigger_word, caption, count=1, flags=re.IGNORECASE)
        if count:
            return replaced
    return f"{trigger_word}, {caption}"


ONSETS = ("v", "z", "k", "b", "d", "g", "zh", "vr", "kl", "dr", "gr", "zl", "kr", "bl", "tr", "pl")
VOWELS = ("a", "e", "i", "o", "u")
ENDINGS = ("x", "zk", "q", "v", "kt", "zz", "rx", "vv")


def suggest_trigger() -> str:
    """A word that can be said but hardly exists: two syllables and an ending that no English word has ("vrazokt")."""
    syllables = (secrets.choice(ONSETS) + secrets.choice(VOWELS) for _ in range(2))
    return "".join(syllables) + secrets.choice(ENDINGS)


NOTES = {
    "ohwx": "ohwx is a classic: four letters that mean nothing to any base model, so all their meaning will come from your pictures.",
    "sks": "sks is a classic from the first DreamBooth scripts. It is also the name of a rifle, so a base that knows photos may draw one.",
    "tok": "TOK, short for token, is what many trainers and diffusers' advanced scripts put in by default. Two LoRAs that share it mix in a stack.",
}


def explain_trigger(word: str) -> str:
    """A sentence about the word a person typed; never a refusal."""
    plain = word.strip()
    if not plain:
        return "Without a trigger word the LoRA works on every prompt it is switched on for."
    if plain.lower() in NOTES:
        return NOTES[plain.lower()]
    if " " in plain:
        return "Several words work too, but one rare word is easier to call and less likely to carry a meaning of its own."
    if len(plain) < 3:
        return "One or two letters mean something in many captions already; three to eight letters are safer."
    return f"Put {plain!r} into a prompt to call the LoRA. If it is an everyday word, what the base knows of it will mix in."
