"""Part of the package ssft_bench: import it as `ssft_bench.downstreams`."""

if not __name__.startswith("ssft_bench."):
    raise ImportError(
        "'downstreams' is a folder of ssft_bench: import ssft_bench.downstreams instead"
    )
