"""A user's mistake gives one clear line, the right exit code and no traceback, before long work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def arguments(toy_an4: Path, toy_plugins: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "--upstream": f"{toy_plugins}/spectrum.py:Spectrum", "--interface": "last", "--task": "pr",
        "--corpus": "an4", "--data": str(toy_an4), "--out": str(tmp_path / "runs"),
    }  # fmt: skip


def expect(
    bench: Bench, arguments: dict[str, str], code: int, *parts: str, more: tuple[str, ...] = ()
) -> None:
    flat = [item for pair in arguments.items() for item in pair]
    got, out, err = bench("run", *flat, *SMALL, *more)
    assert got == code, err
    assert "Traceback" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    for part in parts:
        assert part in err
    runs = Path(arguments["--out"])
    assert not (runs.is_dir() and list(runs.rglob("result.json")))


@pytest.mark.parametrize(
    ("flag", "value", "hint"),
    [
        ("--upstream", "hubert_mni", "hubert_mini"),
        ("--interface", "weighted_sun", "weighted_sum"),
        ("--task", "ars", "asr"),
        ("--corpus", "am4", "an4"),
        ("--suite", "mimi", "mini"),
    ],
)
def test_unknown_names(
    bench: Bench, arguments: dict[str, str], flag: str, value: str, hint: str
) -> None:
    expect(bench, arguments | {flag: value}, 2, f"'{value}'", f"Did you mean {hint}")


def test_unknown_key(bench: Bench, arguments: dict[str, str]) -> None:
    expect(bench, arguments, 2, "train.stesp", "train.steps", more=("--set", "train.stesp=3"))


@pytest.mark.parametrize(
    "text", ["train.steps=-1", "train.steps=many", "task.options.project_dim=0"]
)
def test_wrong_values(bench: Bench, arguments: dict[str, str], text: str) -> None:
    expect(bench, arguments, 2, text.split("=")[0], more=("--set", text))


def test_unknown_option(bench: Bench, arguments: dict[str, str]) -> None:
    expect(bench, arguments | {"--interface": "layer:indx=2"}, 2, "indx")
    expect(bench, arguments | {"--interface": "layer:index=9"}, 2, "0 to 1")


def test_missing_corpus(bench: Bench, arguments: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    expect(bench, arguments | {"--data": str(tmp_path / "empty")}, 3, "an4", "--data")
    expect(bench, arguments | {"--data": str(tmp_path / "nowhere")}, 3, "nowhere")
    without = {k: v for k, v in arguments.items() if k != "--data"}
    expect(bench, without, 3, "--data", "SSFT_BENCH_DATA", "github.com/cmusphinx/an4")


def recording(root: Path) -> Path:
    return sorted(root.rglob("*.flac"))[7]


def as_wav(root: Path) -> Path:
    """The same recording as a WAV file."""
    path = recording(root)
    samples, rate = soundfile.read(path)
    path.unlink()
    path = path.with_suffix(".wav")
    soundfile.write(path, samples, rate)
    return path


def test_zero_byte_recording(bench: Bench, arguments: dict[str, str], toy_an4: Path) -> None:
    path = as_wav(toy_an4)
    path.write_bytes(b"")
    expect(bench, arguments, 3, path.name)


def test_text_file_named_wav(bench: Bench, arguments: dict[str, str], toy_an4: Path) -> None:
    path = as_wav(toy_an4)
    path.write_text("this is no sound\n" * 50)
    expect(bench, arguments, 3, path.name)


def test_wrong_rate_in_the_header(bench: Bench, arguments: dict[str, str], toy_an4: Path) -> None:
    path = as_wav(toy_an4)
    data = bytearray(path.read_bytes())
    data[24:28] = (8000).to_bytes(4, "little")  # the rate alone: byte rate still says 16 kHz
    path.write_bytes(data)
    expect(bench, arguments, 3, path.name)
    samples = np.random.default_rng(0).standard_normal(16000) * 0.1
    soundfile.write(path, samples, 8000)  # consistent, but unlike all others
    expect(bench, arguments, 3, path.name, "8000", "data.mixed_rates=true")


def test_transcript_without_audio(bench: Bench, arguments: dict[str, str], toy_an4: Path) -> None:
    path = recording(toy_an4)
    path.unlink()
    expect(bench, arguments, 3, path.stem)


def test_nan_and_truncated(bench: Bench, arguments: dict[str, str], toy_an4: Path) -> None:
    path = as_wav(toy_an4)
    samples, rate = soundfile.read(path)
    samples[50] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")
    expect(bench, arguments, 3, path.name)
    soundfile.write(path, np.zeros(16000) + 0.1, rate)
    path.write_bytes(path.read_bytes()[:2000])
    expect(bench, arguments, 3, path.name)


def test_output_folder_that_cannot_be_written(
    bench: Bench, arguments: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    expect(bench, arguments | {"--out": str(tmp_path / "file")}, 2, "--out", "cannot write")
    expect(bench, arguments | {"--out": "/proc/nowhere"}, 2, "--out", "cannot write")


def test_wrong_flags_end_in_code_2(bench: Bench) -> None:
    code, out, err = bench("run", "--upsteram", "x")
    assert code == 2
    assert "Traceback" not in out + err
    assert bench("no-such-command")[0] == 2
