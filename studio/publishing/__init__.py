"""Publish a trained LoRA to the Hub: files, model card, licence, upload."""
