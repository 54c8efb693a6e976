"""One SOURCE, and the images that it names: found, opened, decoded to upright RGB.  No model is known here."""
