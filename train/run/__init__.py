"""A run: steps, checkpoints, resuming, and the model folder at its end."""
