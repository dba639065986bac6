"""Ids to batches: memory-mapped shards, and batches as a pure function of (seed, step)."""
