"""The voices and the split each belongs to; one person is in one split only.

Flite, Festival and eight espeak-ng voices are those of the corpus `mini`, in the same split. espeak-ng's
other variants are told apart by formants, pitch and voice quality; the variants of dev and test are heard
neither in training nor in the pretraining of the package's own upstreams.
Queries are said by recorded voices alone (as in `mini`), most documents by synthesised ones: who asks
is not who is heard. `warp` makes persons of another vocal tract length out of one recorded voice.
"""

from __future__ import annotations

from dataclasses import replace

from ssft_bench.corpora.mini.make.voices import VOICES as MINI
from ssft_bench.corpora.mini.make.voices import Voice

ESPEAK = {
    "train": "adam klatt4 f2 rob m1 m2 m4 f1 f3 linda ed john".split(),
    "dev": "default m3 f5 m5 Annie".split(),
    "test": (
        "f4 max m7 m8 steph klatt2 Alex belinda paul david Andrea Mike robert travis victor shelby "
        "zac Lee Hugo sandro benjamin caleb Michael"
    ).split(),
}
RECORDED = (
    *(replace(voice, share=2) for voice in MINI if voice.engine in ("flite", "festival")),
    Voice("arctic-awb-long", "flite", "test", 1, {"voice": "awb"}, 0.9),
    Voice("arctic-awb-short", "flite", "test", 1, {"voice": "awb"}, 1.12),
)


def _espeak(split: str, name: str) -> Voice:
    variant = "en-us" if name == "default" else f"en-us+{name}"
    settings = {"voice": variant, "pitch": 50}
    return Voice(f"espeak-{name.lower()}", "espeak", split, 1, settings, queries=False)


VOICES: tuple[Voice, ...] = (
    *RECORDED,
    *(_espeak(split, name) for split, names in ESPEAK.items() for name in names),
)
"""`share` is a weight here: a voice of 2 says twice as much as one of 1."""
