"""Fixtures: a tiny learnable corpus, a tiny upstream, the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.speech import write

HERTZ = {"A": 500, "B": 1000, "C": 1500, "D": 2000, "E": 2500}
"""A letter is a tone, so that a downstream can learn to spell within a few seconds."""

TOY_UPSTREAM = '''
"""Log spectrum of 20 ms frames at two scales: two hidden states of 40."""
import torch
from s3prl.upstream.interfaces import UpstreamBase


class Spectrum(UpstreamBase):
    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = torch.nn.Parameter(torch.tensor(float(gain)))

    def get_downsample_rates(self, key):
        return 320

    def forward(self, wavs):
        frames = [torch.nn.functional.pad(w, (0, -len(w) % 320)).view(-1, 320) for w in wavs]
        padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
        power = torch.fft.rfft(padded).abs()[..., :160].unflatten(-1, (40, 4)).sum(-1)
        return {"hidden_states": [(self.gain * power + 1).log(), (self.gain * power).tanh()]}
'''

TOY_INTERFACE = '''
"""Twenty lines of somebody's own interface."""
import torch
from ssft_bench.interface import Interface


class Mine(Interface):
    """A learned mix of the first and the last hidden state."""

    def __init__(self, spec, scale=1.0):
        super().__init__(spec)
        self.mix = torch.nn.Parameter(torch.zeros(1))
        self.scale = scale

    def combine(self, states):
        share = torch.sigmoid(self.mix)
        return self.scale * (share * states[0] + (1 - share) * states[-1])
'''

SMALL = (
    "--set", "train.steps=150", "--set", "train.eval_every=50", "--set", "train.save_every=10",
    "--set", "train.optimizer.lr=0.02", "--set", "data.batch_size=8",
)  # fmt: skip
"""A recipe that fits the toy corpus."""


def spell(word: str, rng: np.random.Generator) -> np.ndarray:
    """Tones of 80 ms with gaps of 60 ms, float32 at 16 kHz."""
    parts = [np.zeros(960)]
    for letter in word:
        hertz = HERTZ.get(letter, 3000) * rng.uniform(0.98, 1.02)
        parts += [0.3 * np.sin(2 * np.pi * hertz * np.arange(1280) / 16000), np.zeros(960)]
    wave = np.concatenate(parts)
    return (wave + 0.003 * rng.standard_normal(len(wave))).astype(np.float32)


@pytest.fixture
def toy_an4(tmp_path: Path) -> Path:
    """A corpus in the layout of AN4 with 50 training and 12 test utterances of tones."""
    rng = np.random.default_rng(4)
    root = tmp_path / "data" / "an4"
    for part, speakers in (("train", range(10)), ("test", range(10, 14))):
        ids, lines = [], []
        for number in range(5 * len(speakers) if part == "train" else 12):
            speaker = f"s{speakers[number % len(speakers)]:02d}"
            words = ["".join(rng.choice(list(HERTZ), rng.integers(1, 4))) for _ in range(2)]
            name = f"{part}/{speaker}/u{number:03d}-{speaker}"
            write(root / "wav" / f"{name}.flac", spell(" ".join(words), rng))
            ids.append(name)
            lines.append(f"<s> {' '.join(words)} </s> ({Path(name).name})")
        (root / "etc").mkdir(exist_ok=True)
        (root / f"etc/an4_{part}.fileids").write_text("\n".join(ids) + "\n")
        (root / f"etc/an4_{part}.transcription").write_text("\n".join(lines) + "\n")
    vocabulary = {w for f in root.glob("etc/*.transcription") for w in f.read_text().split()}
    phones = dict(zip(HERTZ, ("AA", "B", "K", "D", "IY"), strict=True))
    words = sorted(w for w in vocabulary if set(w) <= set(HERTZ))
    (root / "etc/an4.dic").write_text(
        "".join(f"{w} {' '.join(phones[c] for c in w)}\n" for w in words)
    )
    return root


@pytest.fixture
def toy_plugins(tmp_path: Path) -> Path:
    """A folder with `spectrum.py:Spectrum` and `mine.py:Mine`."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "spectrum.py").write_text(TOY_UPSTREAM)
    (folder / "mine.py").write_text(TOY_INTERFACE)
    return folder


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SSFT_BENCH_DATA", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        from ssft_bench import cli

        monkeypatch.setattr(sys, "argv", ["ssft-bench", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads do not pay for models this small, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
