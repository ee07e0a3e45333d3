"""The SSFT method score: method, recipes, names and mini checkpoints."""
