"""The Hugging Face Hub: client, errors, downloads, uploads."""
