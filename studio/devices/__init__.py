"""Device choice, precision and memory planning."""
