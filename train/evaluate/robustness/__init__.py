"""Accuracy on images that are hidden in part, corrupted, or on other backgrounds."""
