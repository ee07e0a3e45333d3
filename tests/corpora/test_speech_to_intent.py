"""Orders of coffee: slots found in their texts, in both layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssft_bench.corpora.held_out import split_of
from ssft_bench.corpora.manifest import Entity
from ssft_bench.corpora.speech_to_intent import SLOTS, SpeechToIntent, locate, texts
from ssft_bench.errors import MissingError, UsageError
from tests.corpora.layouts import SHORT
from tests.speech import real_data, write

SPLITS = ("train", "dev", "test")
HEAD = "id\ttext\tslots\n"


def tidy(root: Path, rows: dict[str, tuple[str, dict[str, str]]]) -> Path:
    for name in rows:
        write(root / "audio" / f"{name}.flac", SHORT)
    lines = [f"{name}\t{text}\t{json.dumps(slots)}\n" for name, (text, slots) in rows.items()]
    (root / "utterances.tsv").write_text(HEAD + "".join(lines))
    return root


def phrases(row: object) -> dict[str, str]:
    text = row.text  # type: ignore[attr-defined]
    return {e.tag: text[e.start : e.start + e.length] for e in row.entities}  # type: ignore[attr-defined]


def test_slots_become_entities(tmp_path: Path) -> None:
    order = ("I'd like a medium medium roast latte", {"roast": "medium roast", "size": "medium"})
    corpus = SpeechToIntent(tidy(tmp_path / "speech_to_intent", {"a": order}).parent)
    (row,) = [row for split in SPLITS for row in corpus.utterances(split)]
    assert row.text == "I'D LIKE A MEDIUM MEDIUM ROAST LATTE"
    assert row.entities == (Entity("size", 11, 6), Entity("roast", 18, 12))
    assert (row.speaker, row.split) == (None, split_of("audio/a"))


@pytest.mark.parametrize(
    ("text", "slots", "found"),
    [
        ("A B A", {"x": "A", "y": "A"}, [("x", 0), ("y", 4)]),
        ("ICED TEA TEA", {"x": "TEA", "y": "ICED TEA"}, [("y", 0), ("x", 9)]),
        ("TEAPOT TEA", {"x": "TEA"}, [("x", 7)]),
        ("TEA'S TEA", {"x": "TEA"}, [("x", 6)]),
    ],
)
def test_places(text: str, slots: dict[str, str], found: list[tuple[str, int]]) -> None:
    assert [(e.tag, e.start) for e in locate(text, slots)] == found


@pytest.mark.parametrize("slots", [{"x": "COFFEE"}, {"x": "TEA", "y": "TEA"}, {"x": "TE"}])
def test_a_slot_without_a_place(slots: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not in the text 'ICED TEA'"):
        locate("ICED TEA", slots)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """The public repository's layout, with labels made from our transcripts: their last word."""
    data = tmp_path / "speech-to-intent-benchmark/data"
    labels = {
        f"{name}.wav": {"intent": "orderDrink", "slots": {"last": f" {text.split()[-1]}"}}
        for name, text in texts().items()
    }
    labels["another.wav"] = {"intent": "orderDrink", "slots": {}}
    (data / "label").mkdir(parents=True)
    (data / "label/label.json").write_text(json.dumps(labels))
    (data / "speech/clean").mkdir(parents=True)
    for name in texts():
        (data / "speech/clean" / f"{name}.wav").touch()  # the reader does not open it
    return tmp_path


def test_the_public_layout(public: Path) -> None:
    corpus = SpeechToIntent(public)
    rows = [row for split in SPLITS for row in corpus.utterances(split)]
    assert sorted(row.id for row in rows) == sorted(texts())
    for row in rows:
        assert row.text == texts()[row.id].upper()
        assert phrases(row) == {"last": row.text.split()[-1]}
        assert row.audio == public / f"speech-to-intent-benchmark/data/speech/clean/{row.id}.wav"
    sizes = [len(corpus.utterances(split)) for split in SPLITS]
    assert sizes == [254, 64, 82]


def test_mistakes(public: Path, tmp_path: Path) -> None:
    name = next(iter(texts()))
    data = public / "speech-to-intent-benchmark/data"
    (data / f"speech/clean/{name}.wav").unlink()
    with pytest.raises(MissingError, match=rf"1 recordings .*\n.*{name}: no .*{name}\.wav"):
        SpeechToIntent(public).utterances("dev")
    labels = json.loads((data / "label/label.json").read_text())
    del labels[f"{name}.wav"]
    (data / "label/label.json").write_text(json.dumps(labels))
    with pytest.raises(MissingError, match="does not have the labels of all recordings"):
        SpeechToIntent(public).utterances("dev")
    with pytest.raises(MissingError, match=r"neither utterances\.tsv nor data/label/label\.json"):
        SpeechToIntent(tmp_path / "speech-to-intent-benchmark/data").utterances("dev")
    other = tidy(tmp_path / "other", {"a": ("a latte", {"size": "large"})})
    with pytest.raises(MissingError, match="a: the slot size is 'LARGE', which is not in"):
        SpeechToIntent(other).utterances("train")
    (other / "utterances.tsv").write_text(HEAD + "a\ta latte\n")
    with pytest.raises(MissingError, match=r"utterances\.tsv:2 is not id, text, slots"):
        SpeechToIntent(other).utterances("train")
    with pytest.raises(UsageError, match="no split 'eval'"):
        SpeechToIntent(other).utterances("eval")


def test_the_real_recordings() -> None:
    root = real_data("speech_to_intent")
    corpus = SpeechToIntent(root)
    rows = {row.id: row for split in SPLITS for row in corpus.utterances(split)}
    lines = (root / "utterances.tsv").read_text().splitlines()[1:]
    assert len(rows) == len(lines) == 400
    for line in lines:
        name, text, slots = line.split("\t")
        assert texts()[name] == text
        assert rows[name].text == text.upper()
        assert phrases(rows[name]) == {k: v.upper() for k, v in json.loads(slots).items()}
    assert {e.tag for row in rows.values() for e in row.entities or ()} == set(SLOTS)
