"""The SSFT method laser: method, recipes, names and mini checkpoints."""
