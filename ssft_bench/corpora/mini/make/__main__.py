"""Command line of the corpus maker; see the package's docstring for what to install."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ssft_bench.corpora.mini.make")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make the corpus")
    build.add_argument("--out", type=Path, required=True, help="folder of the result")
    build.add_argument("--seed", type=int, default=1)
    build.add_argument("--cache", type=Path, help="keep the engines' audio here, to go on later")
    build.add_argument("--warm", nargs="*", metavar="ENGINE", help="only fill the cache")
    score = commands.add_parser("score", help="word error rate of a recogniser")
    score.add_argument("--corpus", type=Path, default=CORPUS)
    score.add_argument("--out", type=Path, required=True, help="JSON with texts and rates")
    card = commands.add_parser("card", help="write the numbers into the card README.md")
    card.add_argument("--corpus", type=Path, default=CORPUS)
    card.add_argument("--wer", type=Path, required=True, help="what `score` wrote")
    check = commands.add_parser("check", help="test the corpus against its requirements")
    check.add_argument("--corpus", type=Path, default=CORPUS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; each imports only what it needs."""
    args = _parser().parse_args(argv)
    if args.command == "build":
        from ssft_bench.corpora.mini.make import build

        if args.warm is not None:
            build.warm(args.warm, args.seed, args.cache)
        else:
            build.build(args.out, args.seed, args.cache)
    elif args.command == "score":
        from ssft_bench.corpora.mini.make import score

        score.score(args.corpus, args.out)
    elif args.command == "card":
        from ssft_bench.corpora.mini.make import statistics

        statistics.update_card(args.corpus, args.wer)
    else:
        from ssft_bench.corpora.mini.make import check

        return check.report(check.check(args.corpus))
    return 0


if __name__ == "__main__":
    sys.exit(main())
