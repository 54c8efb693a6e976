"""The authors' release, opened without trusting it, and turned into a model folder.

Fetching it is in zoo/.
"""
