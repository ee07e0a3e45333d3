"""Plug-ins for ssft-bench."""
