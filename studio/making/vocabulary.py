"""Tokenizers of the built-in model and the captioner: each word of the world is one token, other words are split into bytes or letters."""

import string

from transformers import BertTokenizer, CLIPTokenizer

from studio.making import world

MAX_TOKENS = 32
"""Length of a prompt in tokens, start and end included. The longest caption of the world has 20."""

START, END = "<|startoftext|>", "<|endoftext|>"
EXTRA_WORDS = (
    "ohwx sks tok a an and the of in on at by with to picture photo drawing illustration image painting sketch style light dusk centre center middle "
    "big little tiny huge two one sunny sun moon rain town field meadow beach winter evening morning dark bright colour color gray violet dog lion "
    "dragon monster creature character toy robot person girl boy man woman apple ball flag rock mountain river bridge castle"
)
"""Common words in prompts that are not in the world: whole tokens, so that prompts stay short."""


def words() -> list[str]:
    """All whole-word tokens, sorted, so that ids do not depend on the order in the source."""
    phrases = [*world.THINGS, *world.COLOURS, *world.SETTINGS, *world.PLACES.values(), *world.SIZES, *world.POSITIONS.values(), *world.PREFIXES]
    return sorted({word for phrase in [*phrases, EXTRA_WORDS] for word in phrase.split()})


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in byte order: the alphabet of byte-level BPE."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    stand_in = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in stand_in)
    stand_in.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return [stand_in[byte] for byte in range(256)]


def merge(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: merge the best-ranked pair until none is known."""
    while True:
        known = [(ranks[pair], index) for index, pair in enumerate(zip(pieces, pieces[1:])) if pair in ranks]
        if not known:
            return pieces
        _, index = min(known)
        pieces = [*pieces[:index], pieces[index] + pieces[index + 1], *pieces[index + 2 :]]


def prompt_tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer with a small vocabulary. Merges are added word by word; a later one ranks lower, so it changes no earlier word."""
    symbols = byte_symbols()
    tokens = symbols + [f"{symbol}</w>" for symbol in symbols]
    ranks: dict[tuple[str, str], int] = {}
    for word in words():
        while len(pieces := merge([*word[:-1], f"{word[-1]}</w>"], ranks)) > 1:
            ranks[pieces[0], pieces[1]] = len(ranks)
            if pieces[0] + pieces[1] not in tokens:
                tokens.append(pieces[0] + pieces[1])
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(
        vocab=vocabulary, merges=list(ranks), model_max_length=MAX_TOKENS, bos_token=START, eos_token=END, unk_token=END, pad_token=END
    )


def caption_tokenizer() -> BertTokenizer:
    """BERT's tokenizer as BLIP uses it; '[DEC]' starts a caption and is a registered special token, else it would be part of the decoded caption."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in string.ascii_lowercase + string.digits)]
    tokens += [word for word in (clean for clean in words()) if word not in tokens]
    tokens += ["[DEC]"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, bos_token="[DEC]", additional_special_tokens=["[DEC]"], model_max_length=64)
