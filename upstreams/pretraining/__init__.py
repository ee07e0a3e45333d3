"""What the recipes of hubert_mini and wav2vec2_mini share: audio, batches, targets, weights, expert."""
