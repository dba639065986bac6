"""int8 and int4 weights, applied from outside to a model."""
