"""Figures of masks against what is known of the objects."""
