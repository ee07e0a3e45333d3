"""Tuning: a base upstream and speech become an SSFT checkpoint."""
