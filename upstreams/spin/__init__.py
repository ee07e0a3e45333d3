"""The SSFT method spin: method, recipes, names and mini checkpoints."""
