"""What every layer stands on: errors, places on disk, the operating system, access. No torch."""
