"""Does a number still hold? Rescoring, reference values with tolerances, re-running, and what changed."""
