"""Pretraining of encoders and maskers: the game, the data, the loop, the probes."""
