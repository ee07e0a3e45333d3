"""The SSFT method rewire: method, recipes, names and mini checkpoints."""
