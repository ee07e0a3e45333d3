"""Small pretrained upstream `hubert_mini`, in s3prl's layout: expert.py, hubconf.py, weights beside them."""
