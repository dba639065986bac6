"""Training: one step, the loop around it, what it measures."""
