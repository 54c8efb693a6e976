"""One model: its card, its encoder and masker, and the folder that it is saved in.

Which models there are by name is in zoo/.
"""
