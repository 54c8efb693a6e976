"""The comparison of ADIOS with no masks and random ones, at equal cost.

Its page in the docs is written by release/.
"""
