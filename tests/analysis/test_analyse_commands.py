"""The five commands from end to end on toy data: tables, JSON, files, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ssft_bench.analysis.commands import analyse_app
from ssft_bench.analysis.sources import chosen_layers, names_in_order, spread, upstream_named
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import BenchError, MissingError, UsageError
from tests.conftest import HERTZ
from tests.speech import write

Analyse = Callable[..., dict[str, Any]]
COMMANDS = ("isotropy", "pnmi", "speaker-probe", "convergence", "retrieval")


@pytest.fixture
def analyse(monkeypatch: pytest.MonkeyPatch) -> Analyse:
    """Run a command, return its JSON; errors come out as they are."""
    monkeypatch.delenv("SSFT_BENCH_DATA", raising=False)

    def call(*arguments: object) -> dict[str, Any]:
        done = CliRunner().invoke(analyse_app, [*map(str, arguments), "--json"])
        if done.exception:
            raise done.exception
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return call


@pytest.fixture
def spectrum(toy_plugins: Path) -> str:
    return f"{toy_plugins}/spectrum.py:Spectrum"


@pytest.fixture
def toy_alignments(toy_an4: Path) -> Path:
    """Where the tones of `spell` are: 60 ms of silence, then 80 ms a letter and 60 ms of silence."""
    path = toy_an4.parent / "alignments.jsonl"
    phones = dict(zip(HERTZ, ("AA1", "B", "K", "D", "IY0"), strict=True))
    lines = []
    for file in sorted(toy_an4.glob("etc/*.transcription")):
        for line in file.read_text().splitlines():
            text, _, name = line.removeprefix("<s> ").partition(" </s> ")
            words: list[Any] = [["<sil>", 0, 6, [["SIL", 0, 6]]]]
            at, start, inner = 6, 6, []
            for letter in f"{text} ":
                if letter == " ":
                    words.append(["word", start, at - start, inner])
                    start, inner = at + 14, []
                else:
                    inner += [[phones[letter], at, 8], ["SIL", at + 8, 6]]
                at += 14
            lines.append(json.dumps({"file": name.strip("()"), "words": words}))
    path.write_text("\n".join(lines))
    return path


def tones(word: str, rng: np.random.Generator) -> np.ndarray:
    """A tone for each letter, 60 to 160 ms, nothing between them; float32 at 16 kHz."""
    parts = [
        np.sin(2 * np.pi * HERTZ[c] * np.arange(320 * int(rng.integers(3, 9))) / 16000)
        for c in word
    ]
    wave = 0.3 * np.concatenate(parts)
    return (wave + 0.003 * rng.standard_normal(len(wave))).astype(np.float32)


def picture(path: Path) -> np.ndarray:
    pixels: np.ndarray = matplotlib.image.imread(path)
    return pixels


def test_isotropy(analyse: Analyse, spectrum: str, toy_an4: Path, tmp_path: Path) -> None:
    both = ("--upstream", spectrum, "--upstream", f"{spectrum}:gain=9.0")
    found = analyse(
        "isotropy", *both, "--corpus", "an4", "--data", toy_an4, "--split", "train",
        "--max-utterances", 20, "-o", tmp_path / "out",
    )  # fmt: skip
    first, second = found["rows"]
    assert (first["upstream"], second["upstream"]) == (spectrum, f"{spectrum}:gain=9.0")
    assert first["n"] == second["n"] == 20
    assert first["dims"] == 40
    assert first["mean_cosine_raw"] > 0.5  # tones and their gaps: all spectra are positive
    assert first["mean_cosine_raw"] != second["mean_cosine_raw"]
    assert found["settings"]["max_utterances"] == 20
    assert json.loads((tmp_path / "out/isotropy.json").read_text()) == found
    assert (tmp_path / "out/isotropy.md").read_text().count("\n| ") == 4
    assert picture(tmp_path / "out/isotropy.png").std() > 0.05


def test_pooled_vectors_are_means_over_layers_of_means_over_time(
    spectrum: str, toy_an4: Path
) -> None:
    from ssft_bench.analysis.isotropy import pooled
    from ssft_bench.analysis.sources import speech
    from ssft_bench.audio import read_audio

    source = speech("an4", "test", str(toy_an4), 3)
    upstream = upstream_named(spectrum, torch.device("cpu"))
    found = pooled(upstream, source)
    for row, vector in zip(source.utterances, found, strict=True):
        states = upstream([torch.from_numpy(read_audio(row.audio))]).states
        expected = np.mean([s[0].detach().double().mean(dim=0).numpy() for s in states], axis=0)
        assert vector == pytest.approx(expected, abs=1e-6)


def test_pnmi(
    analyse: Analyse, spectrum: str, toy_an4: Path, toy_alignments: Path, tmp_path: Path
) -> None:
    common = (
        "pnmi", "--upstream", spectrum, "--corpus", "an4", "--data", toy_an4, "--clusters", 12,
        "--alignments", toy_alignments,
    )  # fmt: skip
    (row,) = analyse(*common)["rows"]
    assert row["layer"] == 1
    assert row["pnmi"] > 0.5 > 0.1 > row["pnmi_shuffled"]
    assert row["phone_purity"] > 0.6
    assert analyse(*common)["rows"] == [row]  # seeded
    silent = analyse(*common, "--drop-silence")
    assert silent["rows"][0]["frames"] < row["frames"]
    assert "silence left out" in silent["notes"][0]
    layers = analyse(*common, "--all-layers", "-o", tmp_path / "out")["rows"]
    assert [one["layer"] for one in layers] == [0, 1]
    assert picture(tmp_path / "out/pnmi.png").std() > 0.05
    with pytest.raises(UsageError, match="exclude each other"):
        analyse(*common, "--all-layers", "--layer", 0)
    with pytest.raises(UsageError, match="--alignments FILE"):
        analyse(*common[:-2])
    with pytest.raises(UsageError, match="--clusters 100000"):
        analyse(*common, "--clusters", 100_000)


def test_an_upstreams_codebook_is_used(
    analyse: Analyse, toy_plugins: Path, toy_an4: Path, toy_alignments: Path
) -> None:
    code = (toy_plugins / "spectrum.py").read_text()
    code += (
        "\n\nclass Spin(Spectrum):\n"
        "    codebook_of_layer = 0, torch.eye(40), torch.zeros(40), torch.eye(40)\n"
    )
    (toy_plugins / "spin.py").write_text(code)
    common = (
        "pnmi", "--upstream", f"{toy_plugins}/spin.py:Spin", "--corpus", "an4", "--data", toy_an4,
        "--alignments", toy_alignments, "--clusters", 12,
    )  # fmt: skip
    (row,) = analyse(*common)["rows"]
    assert (row["layer"], row["codes"]) == (0, "40 of its codebook")
    assert row["pnmi"] > 0.4  # the loudest band tells the tone
    assert analyse(*common, "--kmeans")["rows"][0]["codes"] == "12 by k-means"
    assert analyse(*common, "--layer", -1)["rows"][0]["codes"] == "12 by k-means"


def test_speaker_probe(
    analyse: Analyse, spectrum: str, toy_an4: Path, toy_alignments: Path, tmp_path: Path
) -> None:
    common = ("speaker-probe", "--upstream", spectrum, "--corpus", "an4", "--data", toy_an4)
    found = analyse(*common, "--alignments", toy_alignments, "-o", tmp_path / "out")["rows"]
    assert [row["layer"] for row in found] == [0, 1]
    for row in found:
        assert row["speaker_accuracy"] < 60  # the toy's speakers all sound the same
        assert row["phone_accuracy"] > row["phone_chance"] + 20
    assert picture(tmp_path / "out/speaker-probe.png").std() > 0.05
    (last,) = analyse(*common, "--layers", -1)["rows"]
    assert last["layer"] == 1
    assert "phone_accuracy" not in last


def test_retrieval(analyse: Analyse, spectrum: str, tmp_path: Path) -> None:
    rng = np.random.default_rng()
    for word in ("ABC", "CBA", "DDE"):
        for i in range(5):
            write(tmp_path / f"words/{word}/{i}.flac", tones(word, rng))
    common = ("retrieval", "--upstream", spectrum, "--words", tmp_path / "words")
    (row,) = analyse(*common, "-o", tmp_path / "out")["rows"]
    assert row["map"] > 90
    assert 20 < row["chance"] < 50
    assert (row["queries"], row["words"]) == (15, 3)
    assert set(row["map_by_word"]) == {"ABC", "CBA", "DDE"}
    assert picture(tmp_path / "out/retrieval.png").std() > 0.02
    # The same tones in another order: their means are the same, their order is not.
    (mean,) = analyse(*common, "--pooling", "mean")["rows"]
    assert mean["map"] < row["map"]
    with pytest.raises(UsageError, match="leaves nothing"):
        analyse(*common, "--pooling", "mean", "--subtract-mean")
    with pytest.raises(UsageError, match="either --words"):
        analyse(*common, "--corpus", "mini")
    with pytest.raises(UsageError, match=r"speakers of .* are not known"):
        analyse(*common, "--across-speakers")


def test_retrieval_of_words_cut_out(
    analyse: Analyse, spectrum: str, toy_an4: Path, toy_alignments: Path
) -> None:
    common = ("retrieval", "--upstream", spectrum, "--corpus", "an4", "--data", toy_an4)
    found = analyse(*common, "--alignments", toy_alignments, "--min-seconds", 0.1)
    assert found["rows"][0]["recordings"] == 24
    assert "cut out by alignment" in found["notes"][0]
    with pytest.raises(UsageError, match="an4 has no isolated words"):
        analyse(*common)


def test_convergence(analyse: Analyse, tmp_path: Path) -> None:
    from ssft_bench.spec import resolve
    from tests.analysis.test_convergence import finished

    spec = resolve(upstream="fbank", interface="weighted_sum", task="pr")
    base = finished(tmp_path / "b", spec, [9.0, 5.0, 4.0], upstream="base")
    tuned = finished(tmp_path / "t", spec, [4.0, 3.0, 3.0])
    found = analyse("convergence", "--base", base, "--tuned", tuned, "-o", tmp_path / "out")
    assert found["rows"][0]["ratio"] == pytest.approx(1 / 3)
    assert picture(tmp_path / "out/convergence.png").std() > 0.05


def test_layers_and_utterances_are_chosen_as_asked(tmp_path: Path) -> None:
    assert chosen_layers("all", 3, "u") == [0, 1, 2]
    assert chosen_layers("0,-1,2", 3, "u") == [0, 2]
    for text in ("3", "-4", "x", ""):
        with pytest.raises(UsageError, match="layers"):
            chosen_layers(text, 3, "u")
    rows = [Utterance(str(i), tmp_path, "train") for i in range(10)]
    assert [r.id for r in spread(rows, 4, "c")] == ["0", "2", "5", "7"]
    assert spread(rows, 99, "c") == rows
    with pytest.raises(MissingError, match="no utterances in c"):
        spread([], None, "c")
    with pytest.raises(UsageError, match="--max-utterances 0"):
        spread(rows, 0, "c")
    with pytest.raises(UsageError, match="a is given twice"):
        names_in_order(["a", "b", "a"])


@pytest.mark.parametrize("command", COMMANDS)
def test_mistakes_are_said_before_work(command: str, analyse: Analyse, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    needed = {
        "convergence": ("--base", "nowhere", "--tuned", "nowhere"),
        "retrieval": ("--upstream", "u", "--words", tmp_path),
    }.get(command, ("--upstream", "no_such_upstream", "--corpus", "mini"))
    with pytest.raises(BenchError, match="cannot write"):
        analyse(command, *needed, "-o", blocked / "folder")
    with pytest.raises(BenchError):
        analyse(command, *needed)


def test_help_is_quick() -> None:
    """No torch, scikit-learn or matplotlib for --help."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\n"
        "from ssft_bench.analysis.commands import analyse_app\n"
        f"for c in {COMMANDS!r}: assert CliRunner().invoke(analyse_app, [c, '--help']).exit_code == 0\n"
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
