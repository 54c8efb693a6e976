"""What an encoder and a masker are worth: what all evaluations share, and a room for each kind of them.

The online linear probe of a run is no evaluation; it is in game/.
"""
