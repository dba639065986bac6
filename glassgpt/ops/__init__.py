"""Pure tensor functions. Where a fast version exists, the plain one stands beside it and a test holds them equal."""
