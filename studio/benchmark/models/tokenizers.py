"""Tokenizers over single letters, made in memory: real classes, nothing fetched."""

import string

from transformers import CLIPTokenizer, Qwen2Tokenizer, T5Tokenizer

LETTERS = string.ascii_lowercase
QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip_tokenizer(length: int = 24) -> CLIPTokenizer:
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length, pad_token="<|endoftext|>")


def t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in ("▁", *LETTERS))]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Over the 256 byte letters of GPT-2's alphabet, so that any template can be spelt."""
    # printable bytes stand for themselves, the others for the letters from 256 on (the byte-level alphabet of Radford et al. 2019)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + index) for index in range(256 - len(plain))]
    vocabulary = {token: index for index, token in enumerate([*letters, *QWEN_MARKS])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>", extra_special_tokens=list(QWEN_MARKS[1:]))
    tokenizer.chat_template = QWEN_TEMPLATE
    return tokenizer
