"""Does a plug-in keep its contract? Checks for the author of one, without data and without training."""
