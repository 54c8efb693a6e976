"""Figures by class labels: k-NN, linear probe, fine-tuning, clusters.

The voting of k-NN itself is in adios_zoo/search/.
"""
