"""Reading, converting and checking recordings."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ssft_bench import audio_check
from ssft_bench.audio import BrokenAudio, read_audio
from ssft_bench.audio_check import check_audio
from ssft_bench.errors import MissingError
from tests.speech import murmur, noise, rows, sine, write

Rng = np.random.Generator


@pytest.fixture
def rng() -> Rng:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")  # shown when the test fails
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))


def peak_hertz(wave: np.ndarray) -> float:
    """Frequency of the strongest bin of a 16 kHz wave."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax() * 16000 / len(wave))


def refusal(*paths: Path, **options: object) -> str:
    """The message of the error that checking these files must end in."""
    with pytest.raises(BrokenAudio) as caught:
        check_audio(rows(*paths), **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, MissingError)
    assert caught.value.exit_code == 3
    return str(caught.value)


# --- reading


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_sine_keeps_its_frequency_level_and_length(
    tmp_path: Path, rng: Rng, rate: int, suffix: str, channels: int
) -> None:
    hertz = float(rng.uniform(200, 3000))  # in the pass band of the slowest
    wave = sine(hertz, 1.0, rate)
    stored = wave if channels == 1 else np.stack([wave, np.zeros_like(wave)], axis=1)
    read = read_audio(write(tmp_path / f"a{suffix}", stored, rate))
    assert read.dtype == np.float32
    assert read.shape == (16000,)
    assert abs(peak_hertz(read) - hertz) <= 1
    middle = read[2000:-2000]  # the ends are smeared by the filter
    assert np.abs(middle).max() == pytest.approx(0.5 / channels, rel=0.02)


def test_resampling_removes_what_does_not_fit(tmp_path: Path) -> None:
    """11 kHz lies above the new Nyquist frequency; without a filter it would alias to 5 kHz."""
    read = read_audio(write(tmp_path / "a.wav", sine(11000, 1.0, 44100), 44100))
    assert np.abs(read[2000:-2000]).max() < 0.01


def test_an_odd_rate_needs_no_giant_kernel(tmp_path: Path) -> None:
    read = read_audio(write(tmp_path / "a.wav", sine(1000, 1.0, 44101), 44101))
    assert abs(len(read) - 16000) <= 2
    assert abs(peak_hertz(read) - 1000) <= 1


def test_16_khz_mono_is_bit_exact(tmp_path: Path, rng: Rng) -> None:
    wave = noise(rng, 20.0)  # longer than one block
    assert np.array_equal(read_audio(write(tmp_path / "a.wav", wave, subtype="FLOAT")), wave)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_segments_are_cut_at_whole_samples(tmp_path: Path, rng: Rng, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise(rng, 2.0, rate), rate, subtype="FLOAT")
    whole = soundfile.read(path, dtype="float32")[0]
    start, end = sorted(rng.uniform(0, 2, 2))
    cut = whole[int(start * rate) : int(end * rate)]
    expected = read_audio(write(tmp_path / "cut.wav", cut, rate, subtype="FLOAT"))
    assert np.array_equal(read_audio(path, start, end), expected)
    tail = read_audio(path, start)
    assert len(tail) == pytest.approx((2 - start) * 16000, abs=2)
    assert len(read_audio(path, None, end)) == pytest.approx(end * 16000, abs=2)


def test_ogg_opus_and_sphere_are_read(tmp_path: Path) -> None:
    opus = write(tmp_path / "a.ogg", sine(700, 1.0, 16000), subtype="OPUS")
    sphere = write(tmp_path / "a.sph", sine(700, 1.0, 16000))
    for path in (opus, sphere):
        assert abs(peak_hertz(read_audio(path)) - 700) <= 1


@pytest.mark.parametrize("order", [">i2", "<i2"])
def test_raw_files_of_either_byte_order(tmp_path: Path, rng: Rng, order: str) -> None:
    samples = (murmur(rng) * 3000).astype(np.int16)
    path = tmp_path / "a.raw"
    path.write_bytes(samples.astype(order).tobytes())
    assert np.array_equal(np.round(read_audio(path) * 32768).astype(np.int16), samples)
    path.write_bytes(path.read_bytes()[:-1])
    assert "odd number of bytes" in refusal(path)


def test_reading_a_broken_file_names_it(tmp_path: Path, rng: Rng) -> None:
    with pytest.raises(BrokenAudio, match=r"nothing\.wav: the file is missing"):
        read_audio(tmp_path / "nothing.wav")
    path = write(tmp_path / "a.wav", noise(rng))
    with pytest.raises(BrokenAudio, match="no sample between 5"):
        read_audio(path, 5.0, 6.0)


def test_reading_does_not_import_torch_at_16_khz(tmp_path: Path, rng: Rng) -> None:
    path = write(tmp_path / "a.wav", noise(rng))
    code = (
        "import sys; from pathlib import Path; import ssft_bench.corpora\n"
        "from ssft_bench.corpora import an4, librispeech, mini_corpus\n"
        "from ssft_bench.audio import read_audio\n"
        f"read_audio(Path({str(path)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- checking: what passes


def test_the_summary_of_good_files(tmp_path: Path, rng: Rng) -> None:
    paths = [write(tmp_path / f"{i}.flac", noise(rng, 0.2 + 0.1 * i)) for i in range(4)]
    summary = check_audio(rows(*paths))
    assert summary.files == 4
    assert summary.seconds == pytest.approx((0.2, 0.3, 0.4, 0.5))
    assert summary.hours == pytest.approx(1.4 / 3600)
    assert (summary.rate, summary.rates, summary.warnings) == (16000, {16000: 4}, ())


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM"])
def test_good_wav_encodings_pass(tmp_path: Path, rng: Rng, subtype: str) -> None:
    path = write(tmp_path / "a.wav", noise(rng)[:-1], subtype=subtype)
    assert check_audio(rows(path)).files == 1


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".sph", ".aiff", ".au"])
def test_good_formats_pass(tmp_path: Path, rng: Rng, suffix: str) -> None:
    assert check_audio(rows(write(tmp_path / f"a{suffix}", noise(rng)))).files == 1


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_written_into_a_pipe_passes(tmp_path: Path, rng: Rng, size: int) -> None:
    path = write(tmp_path / "a.wav", noise(rng))
    patch(path, 40, struct.pack("<I", size))
    assert check_audio(rows(path)).seconds == pytest.approx((0.3,))


def test_a_whole_corpus_at_another_rate_and_stereo_passes(tmp_path: Path, rng: Rng) -> None:
    stereo = np.stack([noise(rng), noise(rng)], axis=1)
    summary = check_audio(rows(*[write(tmp_path / f"{i}.wav", stereo, 22050) for i in range(3)]))
    assert summary.rate == 22050


def test_silence_is_only_a_warning(tmp_path: Path, rng: Rng) -> None:
    quiet = write(tmp_path / "hush.wav", np.zeros(8000, np.float32))
    summary = check_audio(rows(quiet, write(tmp_path / "a.wav", noise(rng))))
    assert summary.warnings == ("1 of 2 files hold only silence: hush",)


def test_segments_of_one_file(tmp_path: Path, rng: Rng) -> None:
    (row,) = rows(write(tmp_path / "a.wav", noise(rng, 2.0)))
    first, second = replace(row, end=0.5), replace(row, id="b", start=0.5, end=2.01)
    summary = check_audio([first, second])
    assert (summary.files, summary.seconds) == (1, pytest.approx((0.5, 1.5)))
    with pytest.raises(BrokenAudio, match=r"utterance b\): segment 1\.5-2\.5 s does not lie in"):
        check_audio([first, replace(second, start=1.5, end=2.5)])


# --- checking: what is refused


def patch(path: Path, offset: int, data: bytes) -> Path:
    """Overwrite bytes in place."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def shorten(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def text_file(path: Path, rng: Rng) -> Path:
    path.write_text("this is a letter to you\n" * 9)
    return path


def git_lfs_pointer(path: Path, rng: Rng) -> Path:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return path


def with_value(value: float) -> Callable[[Path, Rng], Path]:
    def make(path: Path, rng: Rng) -> Path:
        wave = noise(rng)
        wave[rng.integers(len(wave))] = value
        return write(path, wave, subtype="FLOAT")

    return make


def empty(path: Path, rng: Rng) -> Path:
    path.touch()
    return path


KINDS: dict[str, tuple[Callable[[Path, Rng], Path], str]] = {
    "missing": (lambda path, rng: path, "the file is missing"),
    "zero bytes": (empty, "zero bytes"),
    "text": (text_file, "not audio but text, it begins with 'this is a letter"),
    "git lfs": (git_lfs_pointer, "not audio but text, it begins with 'version https://git-lfs"),
    "bytes": (lambda p, rng: p.write_bytes(b"\xff\x00" * 99) and p, "not audio"),
    "nan": (with_value(np.nan), "NaN or infinite"),
    "infinite": (with_value(-np.inf), "NaN or infinite"),
    "no samples": (lambda p, rng: write(p, np.zeros(0, np.float32)), "zero length"),
    "short": (lambda p, rng: write(p, noise(rng, 0.04)), "only 0.040 s long, under 0.05 s"),
    "slow": (lambda p, rng: write(p, noise(rng), 3999), "3999 Hz, which no speech recording has"),
    "fast": (lambda p, rng: write(p, noise(rng), 384001), "384001 Hz, which no speech"),
    "patched rate": (
        lambda p, rng: patch(write(p, noise(rng)), 24, struct.pack("<I", 8000)),
        "header contradicts itself: 8000 Hz, but its byte rate is that of 16000 Hz",
    ),
    "folder": (lambda p, rng: p.mkdir() or p, "not a file"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_broken_file_is_named(tmp_path: Path, rng: Rng, kind: str) -> None:
    make, reason = KINDS[kind]
    good = [write(tmp_path / f"good{i}.wav", noise(rng)) for i in range(3)]
    assert check_audio(rows(*good)).files == 3
    bad = make(tmp_path / "bad.wav", rng)
    for _ in range(2):  # the second time the good files are remembered, the broken one is not
        message = refusal(*good, bad)
        assert f"{bad} (utterance bad): " in message
        assert reason in message
        assert "good" not in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "suffix", [".wav", ".flac", ".ogg", ".mp3", ".sph", ".aiff", ".au", ".w64"]
)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_truncated_files_are_found(tmp_path: Path, rng: Rng, suffix: str, share: float) -> None:
    path = write(tmp_path / f"a{suffix}", noise(rng, 2.0))
    assert check_audio(rows(path)).files == 1
    assert "truncated" in refusal(shorten(path, share))


def test_opus_cut_between_pages_is_found(tmp_path: Path, rng: Rng) -> None:
    path = write(tmp_path / "a.ogg", noise(rng, 4.0), subtype="OPUS")
    assert check_audio(rows(path)).files == 1
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])
    assert "truncated: the Ogg stream" in refusal(path)


def test_a_flaw_inside_a_flac_is_found(tmp_path: Path, rng: Rng) -> None:
    path = write(tmp_path / "a.flac", noise(rng, 2.0))
    patch(path, path.stat().st_size // 2, bytes(200))
    assert "damaged" in refusal(path)


def test_many_broken_files_make_one_short_message(tmp_path: Path, rng: Rng) -> None:
    good = write(tmp_path / "good.wav", noise(rng))
    bad = [empty(tmp_path / f"{i}.wav", rng) for i in range(8)]
    with pytest.raises(BrokenAudio) as caught:
        check_audio(rows(good, *bad), source="https://example.org/corpus")
    head, *listed, last = str(caught.value).split("\n")
    assert head.startswith("cannot use 8 of 9 audio files; mend or replace them or get ")
    assert "https://example.org/corpus" in head
    assert len(listed) == 5
    assert last == "  ... and 3 more"
    assert [str(path) in line for path, line in zip(bad, caught.value.problems, strict=True)]


def test_a_rate_that_differs_from_the_others(tmp_path: Path, rng: Rng) -> None:
    usual = [write(tmp_path / f"{i:02d}.flac", noise(rng)) for i in range(19)]
    odd = write(tmp_path / "odd.flac", noise(rng), 8000)
    message = refusal(*usual, odd)
    assert f"{odd} (utterance odd): header says 8000 Hz but the other 19 files say 16000" in message
    assert "--set data.mixed_rates=true" in message
    assert "odd" in refusal(*usual[:2], odd)  # in a tiny corpus too
    summary = check_audio(rows(*usual, odd), allow_mixed_rates=True)
    assert summary.rates == {8000: 1, 16000: 19}


def test_really_mixed_rates_pass(tmp_path: Path, rng: Rng) -> None:
    """Three of ten are no slip of a header, and of two files nobody can tell which is right."""
    paths = [write(tmp_path / f"{i}.wav", noise(rng), 16000 if i < 7 else 8000) for i in range(10)]
    assert check_audio(rows(*paths)).rates == {8000: 3, 16000: 7}
    assert check_audio(rows(paths[0], paths[9])).files == 2


# --- the stamp


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are decoded from now on."""
    seen: list[Path] = []
    inspect = audio_check._inspect

    def spy(path: Path) -> object:
        seen.append(path)
        return inspect(path)

    monkeypatch.setattr(audio_check, "_inspect", spy)
    return seen


def test_good_files_are_decoded_once(tmp_path: Path, rng: Rng, decoded: list[Path]) -> None:
    paths = [write(tmp_path / f"{i}.wav", noise(rng)) for i in range(3)]
    first = check_audio(rows(*paths))
    assert len(decoded) == 3
    assert check_audio(rows(*paths)) == first
    assert len(decoded) == 3
    write(paths[1], noise(rng, 0.4))
    assert check_audio(rows(*paths)) != first
    assert decoded[3:] == [paths[1]]
    paths[2].unlink()
    assert "missing" in refusal(*paths)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"checks": 1, "files": {"x": [1]}}'])
def test_a_damaged_stamp_is_ignored(
    tmp_path: Path, rng: Rng, decoded: list[Path], content: str
) -> None:
    path = write(tmp_path / "a.wav", noise(rng))
    check_audio(rows(path))
    (stamp,) = (tmp_path / "cache").rglob("*.json")
    assert str(path) in json.loads(stamp.read_text())["files"]
    stamp.write_text(content)
    assert check_audio(rows(path)).files == 1
    assert len(decoded) == 2


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(file / "cache"))
    assert check_audio(rows(write(tmp_path / "a.wav", noise(rng)))).files == 1
