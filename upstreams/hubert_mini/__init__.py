"""Small pretrained upstream `hubert_mini` in s3prl's layout: expert, hubconf, weights beside them."""
