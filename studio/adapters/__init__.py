"""LoRA files: header, info, canonical format, other programs' spellings, and a stack of them on a base."""
