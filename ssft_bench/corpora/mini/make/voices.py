"""The voices (invented or recorded persons), the split each belongs to and its share of it.

One person is in one split only. Two engines have the same persons (CMU's slt, and kal, recorded
for Festival and reused by Flite): such a pair has one speaker id.

Kokoro's persons are built from five Japanese style tables. Training uses alpha, gongitsune and kumo, dev
and test only nezumi and tebukuro, so no unseen voice is a mixture of seen ones. `warp` stretches
the spectrum (formants and pitch) as another vocal tract length would.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

A, G, K = "jf_alpha", "jf_gongitsune", "jm_kumo"
N, T = "jf_nezumi", "jf_tebukuro"


@dataclass(frozen=True)
class Voice:
    """A speaker as one engine says it."""

    speaker: str  # neutral id, the same for one person in two engines
    engine: str
    split: str
    share: float  # of the split's duration; a split's shares sum to 1
    settings: dict[str, Any] = field(default_factory=dict)
    warp: float = 1.0  # spectral stretch, > 1 is a shorter vocal tract
    queries: bool = True  # also says isolated query words (clear voices only)


def _kokoro(number: int, split: str, share: float, warp: float = 1.0, **settings: Any) -> Voice:
    settings.setdefault("rate", 1.12)  # their normal rate is slower than the other engines'
    return Voice(f"kokoro-{number:02d}", "kokoro", split, share, settings, warp)


def _espeak(number: int, split: str, share: float, voice: str, pitch: int = 50) -> Voice:
    settings = {"voice": voice, "pitch": pitch}
    return Voice(f"espeak-{number:02d}", "espeak", split, share, settings, queries=False)


SLT, KAL = "arctic-slt", "cmu-kal"
VOICES: tuple[Voice, ...] = (
    _kokoro(1, "train", 0.05, timbre={A: 1.0}),
    _kokoro(2, "train", 0.05, timbre={K: 1.0}),
    _kokoro(3, "train", 0.05, timbre={G: 1.0}),
    _kokoro(4, "train", 0.05, 0.92, timbre={K: 1.5, A: -0.5}),
    _kokoro(5, "train", 0.05, timbre={K: 0.6, G: 0.4}),
    _kokoro(6, "train", 0.05, 1.07, timbre={A: 0.5, G: 0.5}, rate=1.0),
    _kokoro(7, "train", 0.05, 0.89, timbre={G: 1.5, A: -0.5}, rate=1.02),
    Voice(SLT, "flite", "train", 0.08, {"voice": "slt", "stretch": 1.1}),
    Voice(SLT, "festival", "train", 0.08, {"voice": "voice_cmu_us_slt_arctic_hts", "hts": True}),
    Voice(KAL, "flite", "train", 0.08, {"voice": "kal16", "stretch": 1.15}),
    Voice(KAL, "festival", "train", 0.08, {"voice": "voice_kal_diphone"}),
    Voice("arctic-rms", "flite", "train", 0.15, {"voice": "rms"}),
    _espeak(1, "train", 0.045, "en-us+adam"),
    _espeak(2, "train", 0.045, "en-us+klatt4"),
    _espeak(3, "train", 0.045, "en-us+f2"),
    _espeak(4, "train", 0.045, "en-us+rob", 40),
    _kokoro(8, "dev", 0.22, timbre={N: 1.0}),
    _kokoro(9, "dev", 0.2, 0.87, timbre={N: 0.6, T: 0.4}, prosody={N: 1.0}, rate=1.0),
    Voice("cstr-ked", "festival", "dev", 0.36, {"voice": "voice_ked_diphone"}),
    _espeak(5, "dev", 0.11, "en-us"),
    _espeak(6, "dev", 0.11, "en-us+m3", 45),
    _kokoro(10, "test", 0.18, timbre={T: 1.0}),
    _kokoro(11, "test", 0.16, 1.08, timbre={T: 1.4, N: -0.4}),
    _kokoro(12, "test", 0.16, 0.92, timbre={T: 1.5, N: -0.5}, prosody={N: 1.0}, rate=1.05),
    Voice("arctic-awb", "flite", "test", 0.32, {"voice": "awb"}),
    _espeak(7, "test", 0.09, "en-us+f4"),
    _espeak(8, "test", 0.09, "en-us+max"),
)
