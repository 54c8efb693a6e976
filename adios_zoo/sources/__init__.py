"""One SOURCE and the images that it names: found, opened, told from one another.

Each kind of SOURCE is a file, which open.py chooses.  No model is known here.
"""
