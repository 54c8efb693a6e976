"""Probes: what a frozen encoder is worth."""
