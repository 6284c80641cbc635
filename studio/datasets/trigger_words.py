"""Trigger words: find, add, remove, suggest and explain them. No torch."""

import re
import secrets

PLACEHOLDER = "[trigger]"
"""Placeholder of the dataset's trigger word in the sample prompts of presets."""


def has_word(text: str, word: str) -> bool:
    """Whether a text contains the trigger word (or words) as a whole word: "sks" is in "Sks, a dog", not in "two desks"."""
    return bool(word.strip()) and bool(_pattern(word).search(text))


def remove_word(text: str, word: str) -> str:
    """The text without the trigger word and without the commas and spaces that it leaves."""
    if not has_word(text, word):
        return text
    return re.sub(r"(?:\s*,)+", ",", " ".join(_pattern(word).sub(" ", text).split())).strip(" ,")


def fill_placeholder(prompt: str, word: str) -> str:
    """A sample prompt with "[trigger]" replaced by the dataset's trigger word."""
    return " ".join(prompt.replace(PLACEHOLDER, word).split())


def to_placeholder(prompt: str, word: str) -> str:
    """A prompt with its trigger word replaced by "[trigger]", so that it works with every word."""
    return _pattern(word).sub(lambda match: PLACEHOLDER, prompt) if word.strip() else prompt


def _pattern(word: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(word.strip())}(?!\w)", flags=re.IGNORECASE)


MEDIUM = re.compile(r"(?:an? |the )?((?:\w+ )?(?:painting|drawing|illustration|photograph|photo|picture|sketch|cartoon|image|rendering)) of (.+)")


def add_trigger(caption: str, trigger_word: str, subject: str, looks_like_photo: bool = False, class_noun: str = "") -> str:
    """The caption with the trigger word added at the right place for its subject.

    style: "ohwx illustration of a red house" (or "photo of"; the captioner's own medium, "a painting of", is kept): the word qualifies
    the medium. character and object: the class noun with its article and adjectives becomes the word ("a small dog in the
    snow" -> "sks in the snow") when that noun is known, since whatever else the caption names would not be learned; otherwise the word
    comes first ("sks, a small dog in the snow"). A caption that already has the word is not changed.
    """
    if not trigger_word or has_word(caption, trigger_word):
        return caption
    if not caption:
        return trigger_word
    if subject == "style":
        match = MEDIUM.fullmatch(caption)
        medium, rest = match.groups() if match else ("photo" if looks_like_photo else "illustration", caption)
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
    """A pronounceable word that hardly exists: two syllables and an ending that no English word has ("vrazokt")."""
    syllables = (secrets.choice(ONSETS) + secrets.choice(VOWELS) for _ in range(2))
    return "".join(syllables) + secrets.choice(ENDINGS)


NOTES = {
    "ohwx": "ohwx is a common choice: four letters that mean nothing to any base model, so all their meaning will come from your images.",
    "sks": "sks comes from the first DreamBooth scripts. It is also the name of a rifle, so a base trained on photos may generate one.",
    "tok": "TOK, short for token, is the default of many trainers and of diffusers' advanced scripts. Two LoRAs that share it mix in a stack.",
}


def explain_trigger(word: str) -> str:
    """Advice on the trigger word that the user entered; every word is allowed."""
    plain = word.strip()
    if not plain:
        return "Without a trigger word the LoRA affects every prompt."
    if plain.lower() in NOTES:
        return NOTES[plain.lower()]
    if " " in plain:
        return "Several words work too, but one rare word is easier to use and less likely to have a meaning of its own."
    if len(plain) < 3:
        return "One or two letters already have a meaning in many captions; three to eight letters are safer."
    return f"Put {plain!r} into a prompt to activate the LoRA. If it is a common word, the base's own meaning of it mixes in."
