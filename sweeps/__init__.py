"""Part of the package ssft_bench: import it as `ssft_bench.sweeps`."""

if not __name__.startswith("ssft_bench."):
    raise ImportError("'sweeps' is a folder of ssft_bench: import ssft_bench.sweeps instead")
