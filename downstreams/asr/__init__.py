"""Automatic speech recognition: letters by CTC, scored in words."""
