"""LoRA Studio: caption pictures, train a LoRA, try it in a stack, publish it with an honest card."""

__version__ = "0.1.0"
