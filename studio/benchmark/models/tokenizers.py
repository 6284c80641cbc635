"""Tokenizers over single letters, made in memory: real classes, no downloads."""

import string

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer, T5Tokenizer

LETTERS = string.ascii_lowercase
QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL_MARKS = ("<pad>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% set words = message.content | map(attribute='text') | join %}"
    "{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ words }}[/SYSTEM_PROMPT]{% else %}[INST]{{ words }}[/INST]{% endif %}{% endfor %}"
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
    vocabulary = {token: index for index, token in enumerate([*byte_letters(), *QWEN_MARKS])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>", extra_special_tokens=list(QWEN_MARKS[1:]))
    tokenizer.chat_template = QWEN_TEMPLATE
    return tokenizer


def mistral_tokenizer() -> PreTrainedTokenizerFast:
    """Over the same bytes; its chat messages are lists of typed parts, as for vision-language models."""
    vocabulary = {token: index for index, token in enumerate([*MISTRAL_MARKS, *byte_letters()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=list(MISTRAL_MARKS[3:]),
        chat_template=MISTRAL_TEMPLATE,
    )


def byte_letters() -> list[str]:
    """Printable bytes stand for themselves, the others for the letters from 256 on (the byte-level alphabet of Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(256 - len(plain))]
