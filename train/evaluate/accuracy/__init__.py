"""Figures by class labels: k-NN, linear probe, fine-tuning, clusters."""
