"""A run: steps, checkpoints, resuming, and the model folder at its end.

What a step computes is in game/, what it is shown as in report/.
"""
