"""From a SOURCE to the batches of views of each step.

Sources themselves are in adios_zoo/sources/.
"""
