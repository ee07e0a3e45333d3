"""Command line of the corpus maker; see the package's docstring for what to install."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run one command; each imports only what it needs."""
    parser = argparse.ArgumentParser(prog="python -m ssft_bench.corpora.mini_phrases.make")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="make the corpus")
    make.add_argument("--out", type=Path, required=True, help="folder of the result")
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--cache", type=Path, help="keep the engines' audio here, to go on later")
    for name, about in (("card", "write the numbers into the card README.md"),
                        ("check", "test the corpus against its requirements")):  # fmt: skip
        commands.add_parser(name, help=about).add_argument("--corpus", type=Path, default=CORPUS)
    args = parser.parse_args(argv)
    if args.command == "build":
        from ssft_bench.corpora.mini.make.build import build
        from ssft_bench.corpora.mini_phrases.make.plan import make_plan

        build(args.out, args.seed, args.cache, make_plan)
    elif args.command == "card":
        from ssft_bench.corpora.mini_phrases.make import card

        card.update_card(args.corpus)
    else:
        from ssft_bench.corpora.mini.make.check import report
        from ssft_bench.corpora.mini_phrases.make.check import check

        return report(check(args.corpus))
    return 0


if __name__ == "__main__":
    sys.exit(main())
