"""`python -m ssft_bench`."""

from ssft_bench.cli import main

main()
