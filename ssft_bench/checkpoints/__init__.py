"""SSFT checkpoints: what a method changed in its base upstream, and the ways in and out of other formats."""
