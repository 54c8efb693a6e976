"""One image: decoded to upright RGB from whatever holds it, or said why it cannot be.

Where images come from is in sources/.
"""
