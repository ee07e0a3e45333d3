"""Part of the package ssft_bench: import it as `ssft_bench.interfaces`."""

if not __name__.startswith("ssft_bench."):
    raise ImportError(
        "'interfaces' is a folder of ssft_bench: import ssft_bench.interfaces instead"
    )
