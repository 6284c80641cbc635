"""Importing untrusted images, captions, masks and archives; everything is decoded in a process of its own."""
