"""Synthetic speech for pretraining: sentences said by many machine voices, none of them a test voice.

    python -m ssft_bench.upstreams.pretraining.synthetic --texts FILE... --count 8000 --out DIR

needs flite, festival (with festvox-us-slt-hts and festvox-kallpc16k) and espeak-ng. The voices are those of
the training parts of the embedded corpora, and espeak-ng's variants that no embedded corpus keeps for
dev or test; each utterance has a stretched spectrum and a rate of its own. Same seed, same sentences,
voices and rates; with the same versions of the engines the same sound.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from ssft_bench.corpora.mini.make import acoustics
from ssft_bench.corpora.mini.make.engines import ENGINES
from ssft_bench.corpora.mini.make.voices import VOICES as MINI
from ssft_bench.corpora.mini.make.voices import Voice
from ssft_bench.errors import MissingError
from ssft_bench.files import atomic_path

LETTERS = re.compile(r"[a-z' ]{18,90}")
"""Sentences that are taken: no digits or signs, 2 to 6 s."""
WARP, SPEED = (0.84, 1.2), (0.87, 1.13)
"""Range of the spectral stretch (formants and pitch) and of the speaking rate."""
ESPEAK = (
    "Alicia Andy AnxiousAndy Denis Diogo Gene Gene2 Henrique Jacky Marco Mario Nguyen RicishayMax "
    "RicishayMax2 Storm Tweaky adam anika announcer antonio aunty boris ed edward f1 f2 f3 grandma "
    "grandpa gustave iven iven2 iven3 john kaukovalta klatt klatt3 klatt4 klatt5 linda m1 m2 m4 m6 "
    "marcelo michel miguel norbert pablo pedro quincy rob robosoft robosoft3"
).split()
"""Variants of espeak-ng's American voice."""


VOICES = (
    *(
        replace(voice, share=share)
        for engine, share in (("flite", 15), ("festival", 4))
        for voice in MINI
        if voice.engine == engine and voice.split == "train"
    ),
    *(
        Voice(f"espeak-{name}", "espeak", "train", 47 / len(ESPEAK), {"voice": f"en-us+{name}"})
        for name in ESPEAK
    ),
)
"""`share` is the weight in the draw."""


@dataclass(frozen=True)
class Saying:
    """One utterance to be."""

    number: int
    text: str
    voice: Voice
    warp: float
    speed: float
    pitch: int


def read_texts(paths: Iterable[Path]) -> list[str]:
    """Distinct fitting sentences, sorted: plain lines, or JSON lines with a field `sentence`.

    Raises MissingError when a file is absent or nothing fits.
    """
    found = set()
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise MissingError(f"cannot read the sentences {path}: {error}") from error
        for line in lines:
            text = json.loads(line)["sentence"] if path.suffix == ".jsonl" else line
            if LETTERS.fullmatch(text.strip().lower()):
                found.add(text.strip().lower())
    if not found:
        raise MissingError("no sentence of 18 to 90 letters in --texts.")
    return sorted(found)


def plan(texts: Sequence[str], count: int, seed: int) -> list[Saying]:
    """Who says what: every sentence once before any is said again, each time by another voice."""
    rng = random.Random(f"{seed}/synthetic")
    rounds = (text for _ in itertools.count() for text in rng.sample(texts, len(texts)))
    weights = [voice.share for voice in VOICES]
    return [
        Saying(number, text, rng.choices(VOICES, weights)[0], round(rng.uniform(*WARP), 3),
               round(rng.uniform(*SPEED), 3), rng.randint(25, 75))
        for number, text in zip(range(count), rounds, strict=False)
    ]  # fmt: skip


def speak(saying: Saying, out: Path) -> Path:
    """Synthesise one utterance to `out/NNNNN.flac`, unless it is there."""
    path = out / f"{saying.number:05d}.flac"
    if path.exists():
        return path
    settings = dict(saying.voice.settings)
    if saying.voice.engine == "espeak":
        settings["pitch"] = saying.pitch
    # resampling makes the speech faster as it makes it higher: ask for that much slower speech
    audio, rate = ENGINES[saying.voice.engine](saying.text, settings, saying.speed / saying.warp)
    wave = acoustics.trim(acoustics.resample(audio.astype(np.float64), rate, saying.warp))
    wave *= 0.5 / max(1e-6, float(np.abs(wave).max()))
    with atomic_path(path) as temporary:
        soundfile.write(temporary, wave, acoustics.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return path


def main() -> None:
    """Command line; finished utterances are not made again."""
    parser = argparse.ArgumentParser(description="Synthesise speech for pretraining.")
    parser.add_argument(
        "--texts", type=Path, nargs="+", required=True, help="sentences, .txt/.jsonl"
    )
    parser.add_argument("--count", type=int, default=8000, help="utterances")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sayings = plan(read_texts(options.texts), options.count, options.seed)
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = pool.map(speak, sayings, itertools.repeat(options.out), chunksize=8)
        for _ in tqdm(jobs, total=len(sayings), unit="utt"):
            pass


if __name__ == "__main__":
    main()
