"""The game: losses, penalties, heads and turns of the two players.

Where batches come from is in data/, what makes steps of turns in run/.
"""
