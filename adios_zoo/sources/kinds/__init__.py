"""The kinds of SOURCE, one file each: what ../open.py chooses among."""
