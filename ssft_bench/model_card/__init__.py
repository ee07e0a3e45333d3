"""Model cards: what a finished run or an SSFT checkpoint is, from its own record and nothing else."""
