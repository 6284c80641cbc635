"""Foundation for all layers: errors, paths, the operating system, access. No torch."""
