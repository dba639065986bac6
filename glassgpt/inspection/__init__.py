"""Looking into what is there: what went wrong in a run."""
