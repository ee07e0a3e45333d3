"""Part of the package ssft_bench: import it as `ssft_bench.leaderboards`."""

if not __name__.startswith("ssft_bench."):
    raise ImportError(
        "'leaderboards' is a folder of ssft_bench: import ssft_bench.leaderboards instead"
    )
