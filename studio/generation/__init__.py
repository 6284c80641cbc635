"""From a base and a stack of adapters to images."""
