"""Datasets: images, captions, masks, captioners, trigger words, and what is imported into them."""
