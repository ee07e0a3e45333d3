"""Are two systems different, or is it chance? Paired statistics from stored predictions."""

from ssft_bench.comparison.paired import PairedResult, paired, paired_seeds

__all__ = ["PairedResult", "paired", "paired_seeds"]
