"""Looking into what is there: what a model does with a prompt, and what went wrong in a run."""
