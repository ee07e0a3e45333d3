"""Small pretrained upstream `wavlm_mini` in s3prl's layout: expert, hubconf, weights beside them."""
