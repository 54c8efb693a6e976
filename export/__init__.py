"""Export of encoders and maskers to other runtimes."""
