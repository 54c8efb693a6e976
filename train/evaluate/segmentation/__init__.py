"""Figures of masks against what is known of the objects.

Drawing masks is in adios_zoo/pictures/.
"""
