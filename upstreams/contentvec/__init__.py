"""ContentVec from a file; `contentvec`, `contentvec_km100` and `contentvec_km500` are s3prl's own names."""
