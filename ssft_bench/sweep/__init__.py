"""Grids of cells: resolved into a plan, worked on in shares, finished whatever dies in between."""
