"""The version of this package, in a file of its own: whoever needs it need not import the package for it."""

__version__ = "0.1.0"
