"""What a run writes down and shows of itself: log, pictures, curves, its page.

Tensors and model folders are written by run/.
"""
