"""A plug-in that ends the program when it is imported."""

raise SystemExit("I want everybody to stop")
