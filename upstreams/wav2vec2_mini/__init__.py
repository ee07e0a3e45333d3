"""Small pretrained upstream `wav2vec2_mini` in s3prl's layout: expert, hubconf, weights beside them."""
