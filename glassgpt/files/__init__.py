"""Files that are read only as far as they can be trusted, and written in full or not at all."""
