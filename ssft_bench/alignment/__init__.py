"""Alignment kernels: soft-DTW and its divergence, batched, for utterances of different lengths."""

from ssft_bench.alignment.soft_dtw import soft_dtw, soft_dtw_divergence

__all__ = ["soft_dtw", "soft_dtw_divergence"]
