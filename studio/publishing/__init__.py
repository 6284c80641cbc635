"""From a run to a repository on the Hub: what is published, its model card, and sending it."""
