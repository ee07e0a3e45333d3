"""Phoneme recognition: phones by CTC."""
