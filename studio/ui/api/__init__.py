"""Named API endpoints, for programs."""
