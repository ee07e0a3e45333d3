"""Published numbers: rows with source and status, what of ours they correspond to, what they claim."""
