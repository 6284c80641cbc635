"""Code that renders and trains the contents of `studio.builtin`, and the classifiers that score them."""
