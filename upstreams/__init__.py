"""Part of the package ssft_bench: import it as `ssft_bench.upstreams`."""

if not __name__.startswith("ssft_bench."):
    raise ImportError("'upstreams' is a folder of ssft_bench: import ssft_bench.upstreams instead")
