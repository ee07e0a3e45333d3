"""What the recipes of the mini upstreams share: audio, batches, targets, weights, expert."""
