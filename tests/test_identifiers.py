"""Hidden states are kept by identifier, so none may name two recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]


def test_one_name_for_two_recordings(
    bench: Bench, toy_an4: Path, toy_plugins: Path, tmp_path: Path
) -> None:
    for path in (toy_an4 / "etc/an4_test.fileids", toy_an4 / "etc/an4_test.transcription"):
        path.write_text(path.read_text().replace("u003-s13", "u003-s03"))
    (toy_an4 / "wav/test/s13/u003-s13.flac").rename(toy_an4 / "wav/test/s13/u003-s03.flac")
    code, _, err = bench(
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "last", "--task", "pr",
        "--corpus", "an4", "--data", toy_an4, "--out", tmp_path / "runs", *SMALL,
    )  # fmt: skip
    assert code == 3
    assert "u003-s03" in err
    assert "train" in err
    assert "test" in err
