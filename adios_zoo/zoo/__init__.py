"""Models by name: cards, weights, and how they get here and to the Hub.

What a model is stands in models/, the authors' archives in official/.
"""
