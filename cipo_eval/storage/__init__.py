"""A run on disk: what its directory says of it, and the attempts that it holds."""
