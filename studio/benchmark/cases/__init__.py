"""Cases of the GPU benchmark."""
