"""Recipes: every setting of a run, read from YAML and checked.

Nothing is computed here; the recipes themselves are in train/recipes/.
"""
