"""The comparison of ADIOS with no masks and random ones, at equal cost."""
