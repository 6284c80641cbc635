"""Image generation from a base model and a stack of adapters."""
