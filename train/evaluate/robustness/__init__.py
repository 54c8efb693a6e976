"""Accuracy on images that are hidden in part, corrupted, or on other backgrounds.

The classifiers that are judged are fitted by accuracy/.
"""
