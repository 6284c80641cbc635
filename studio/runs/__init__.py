"""Training runs on disk: creation, comparison, sweeps, presets, and the library of LoRAs. No torch."""
