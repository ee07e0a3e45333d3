"""Perturbed copies of a waveform: speed, pitch, voice, equaliser, silenced blocks.

All take and give float32 [samples] at 16 kHz, draw only from the generator they are given, never
change their input, and run in forked data workers.
"""

from ssft_bench.perturbation.blocks import half, zero_block
from ssft_bench.perturbation.equaliser import draw_bands, equalise
from ssft_bench.perturbation.pitch import shift_pitch
from ssft_bench.perturbation.praat import change_gender_praat
from ssft_bench.perturbation.resampling import Wave
from ssft_bench.perturbation.speaker import (
    SpeakerChange,
    change_gender,
    draw_speaker,
    speaker_view,
)
from ssft_bench.perturbation.speed import change_speed

__all__ = [
    "SpeakerChange",
    "Wave",
    "change_gender",
    "change_gender_praat",
    "change_speed",
    "draw_bands",
    "draw_speaker",
    "equalise",
    "half",
    "shift_pitch",
    "speaker_view",
    "zero_block",
]
