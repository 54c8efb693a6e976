"""Images to features: the extractor, its backends, and the files that features lie in.

Looking into these files is in search/.
"""
