"""What the chapter imports; the code itself is the package `glassgpt`."""
