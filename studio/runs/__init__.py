"""Training runs on disk, what can be done with several of them, and the library of LoRAs. No torch."""
