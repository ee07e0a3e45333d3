"""Targets, inventories, heads and messages of the task ner."""

from __future__ import annotations

import random
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssft_bench.corpora.manifest import Entity, Utterance
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.downstreams.letters import BLANK
from ssft_bench.downstreams.ner.scoring import METRICS, entities
from ssft_bench.downstreams.ner.tags import (
    SLUE_INVENTORY,
    SLUE_TAGS,
    inventory_of,
    opened,
    split_apostrophes,
)
from ssft_bench.downstreams.ner.task import NER, NEROptions
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.metric import Prediction
from ssft_bench.ngram import estimate

SEEDS = [1, secrets.randbelow(2**31)]


def row(text: str, *spans: tuple[str, str], name: str = "ep-1") -> Utterance:
    """An utterance whose entities are (tag, phrase), each the first of that phrase in the text."""
    found = tuple(Entity(tag, text.index(phrase), len(phrase)) for tag, phrase in spans)
    return Utterance(name, Path("a.ogg"), "train", text=text, entities=found)


U = row("THE COMMISSION'S ON IT IN NEW YORK", ("ORG", "COMMISSION"), ("GPE", "NEW YORK"))
OWN = row("A BIG MOCHA TODAY", ("size", "BIG"), ("PRODUCT", "MOCHA"), ("DATE", "TODAY"))


def prepared(*utterances: Utterance, **options: object) -> NER:
    task = NER(NEROptions.model_validate(options))
    task.prepare({"train": utterances})
    return task


def test_target_is_slues() -> None:
    task = prepared(U)
    target = task.encode(U)
    spelled = "".join(task.symbols[i] for i in target)
    assert target.dtype == torch.int64
    assert spelled == "THE|`|COMMISSION|]|'S|ON|IT|IN|%|NEW|YORK|]|"
    assert task.reference(U) == "THE [ORG: COMMISSION ] 'S ON IT IN [GPE: NEW YORK ]"
    assert entities(task.reference(U)) == [("ORG", "COMMISSION"), ("PLACE", "NEW YORK")]


def test_inventory_is_slues() -> None:
    task = prepared(U)
    assert len(task.symbols) == len(set(task.symbols)) == 51
    assert task.symbols[BLANK] == "<s>"
    assert set(task.symbols[4:]) == {*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'|]", *SLUE_TAGS.values()}
    assert task.describe()["inventory"] == "SLUE"
    assert task.describe()["outputs"] == 51


@pytest.mark.parametrize(
    ("layers", "expected"),
    # SUPERB's ASR head has 32 outputs, this one 19 more; a linear one has a weight and a bias.
    [(2, 42_828_832 + 19 * 2049), (0, 51 * 769)],
)
def test_parameters(layers: int, expected: int) -> None:
    with torch.device("meta"):
        head = NER(NEROptions(layers=layers)).head(768)
    assert sum(p.numel() for p in head.parameters()) == expected


def test_linear_head_does_not_join_frames() -> None:
    task = prepared(U, layers=0, total_rate=640)
    assert task.output_stride(320) == 320
    logits, lengths = task.head(16)(torch.randn(2, 7, 16), torch.tensor([7, 5]))
    assert logits.shape == (2, 7, 51)
    assert lengths.tolist() == [7, 5]


def test_split_texts_and_joined_ones_have_the_same_target() -> None:
    split = row("THE COMMISSION 'S ON IT IN NEW YORK", ("ORG", "COMMISSION"), ("GPE", "NEW YORK"))
    assert SLUE_INVENTORY.words(U) == SLUE_INVENTORY.words(split)
    inside = row("ON THE COMMISSION'S DAY", ("ORG", "COMMISSION'S"))
    assert SLUE_INVENTORY.words(inside) == ["ON", "THE", "`", "COMMISSION", "'S", "]", "DAY"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COMMISSION'S", "COMMISSION 'S"),
        ("DON'T", "DON 'T"),
        ("'S", "'S"),
        ("MEMBERS' RIGHTS", "MEMBERS RIGHTS"),
        ("Y'ALL'VE ' O'CLOCK", "Y ALL 'VE O 'CLOCK"),
    ],
)
def test_apostrophes(text: str, expected: str) -> None:
    words = split_apostrophes(text)
    assert words == expected.split()
    assert split_apostrophes(" ".join(words)) == words


def test_never_the_target_of_asr() -> None:
    """The trap that README tells of: the two tasks spell one utterance in two ways."""
    plain = ASR(ASROptions()).reference(U)
    assert plain == "THE COMMISSION'S ON IT IN NEW YORK"
    assert plain.split() != [w for w in SLUE_INVENTORY.words(U) if w not in "`%]"]


def test_own_tags_are_sorted_and_scored_as_they_are() -> None:
    task = prepared(OWN)
    assert task.describe()["inventory"] == "corpus"
    assert task.describe()["tags"] == {"DATE": "!", "PRODUCT": "@", "size": "#"}
    assert len(task.symbols) == 4 + 28 + 1 + 3
    assert task.reference(OWN) == "A [size: BIG ] [=PRODUCT: MOCHA ] [=DATE: TODAY ]"
    found = entities(task.reference(OWN))
    assert found == [("size", "BIG"), ("PRODUCT", "MOCHA"), ("DATE", "TODAY")]
    # Negative control: SLUE's scoring would discard one and rename the other.
    assert entities(task.reference(OWN).replace("=", "")) == [("size", "BIG"), ("WHEN", "TODAY")]


def test_a_tag_that_train_lacks_changes_no_character() -> None:
    task = NER(NEROptions())
    task.prepare({"dev": [row("AN ACE", ("ABC", "ACE")), OWN], "train": [OWN]})
    assert task.describe()["tags"] == {**prepared(OWN).describe()["tags"], "ABC": "$"}


def test_discarded_tags_alone_are_no_slue_corpus() -> None:
    only = row("A MOCHA", ("PRODUCT", "MOCHA"))
    assert entities(prepared(only).reference(only)) == [("PRODUCT", "MOCHA")]
    assert entities(prepared(only, U).reference(only)) == []


def test_mini_has_its_own_seven() -> None:
    rows = {split: Mini().utterances(split) for split in ("train", "dev", "test")}
    task = NER(NEROptions())
    task.prepare(rows)
    assert list(task.describe()["tags"]) == "LAW NORP ORG PERSON PLACE QUANT WHEN".split()
    for utterance in rows["test"]:
        wanted = sorted(utterance.entities or (), key=lambda e: e.start)
        text = utterance.text or ""
        phrases = [(e.tag, text[e.start : e.start + e.length]) for e in wanted]
        found = entities(task.reference(utterance))
        assert [(t, p.replace(" '", "'")) for t, p in found] == phrases
        assert len(task.encode(utterance)) >= len(text)


def test_many_tags() -> None:
    many = inventory_of(f"tag{i}" for i in range(55))
    assert len(set(many.symbols)) == 4 + 28 + 1 + 55
    with pytest.raises(UsageError, match="90 entity tags"):
        inventory_of(f"tag{i}" for i in range(90))


@pytest.mark.parametrize("tag", ["", "TWO WORDS", "B:PER", "=GPE", "A]"])
def test_tags_that_cannot_be_written(tag: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        inventory_of([tag])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tags", [list(SLUE_TAGS), ["size", "PRODUCT", "PERSON"]])
def test_whatever_is_decoded_is_stored_without_ambiguity(tags: list[str], seed: int) -> None:
    """Any words made of the outputs can be told from their line, so a score needs no model."""
    rng = random.Random(seed)
    inventory = inventory_of(tags)
    names = {character: tag for tag, character in inventory.characters.items()}
    symbols = [s for s in inventory.symbols[4:] if s != "|"]
    for _ in range(300):
        words = ["".join(rng.choices(symbols, k=rng.choice([1, 1, 2, 4]))) for _ in range(8)]
        line = inventory.line(words).split()
        back = [opened(word) for word in line]
        assert [found[0] if found else None for found in back] == [names.get(w) for w in words]
        assert [w for w, f in zip(line, back, strict=True) if not f] == [
            w for w in words if w not in names
        ]


def logits_of(task: NER, paths: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """One-hot logits of frame-wise symbols; `_` is the blank, the shorter ones are padded."""
    index = {s: i for i, s in enumerate(task.symbols)} | {"_": BLANK}
    longest = max(map(len, paths))
    logits = torch.zeros(len(paths), longest, len(task.symbols))
    for i, path in enumerate(paths):
        for t, symbol in enumerate(path.ljust(longest, "Z")):
            logits[i, t, index[symbol]] = 1
    return logits, torch.tensor([len(p) for p in paths])


def test_decoding() -> None:
    task = prepared(U)
    paths = ["%%|NN_NE|]]|", "A||`_|B", "___", "%A|[GPE|"]
    lines = task.decode(*logits_of(task, paths))
    assert lines == ["[GPE: NNE ]", "A [ORG: B", "", "%A [GPE"]
    assert [entities(line) for line in lines] == [[("PLACE", "NNE")], [], [], []]


def test_decoding_with_a_language_model(tmp_path: Path) -> None:
    """Frames spell two words wrongly; the words of the tagged texts, tags among them, are right."""
    pytest.importorskip("flashlight.lib.text.decoder.kenlm", reason="the decoder is not installed")
    rows = [U, row("IN YORK TODAY", ("GPE", "YORK"), ("DATE", "TODAY"))]
    task = prepared(*rows)
    file = tmp_path / "lm.arpa"
    estimate([task.words(u) for u in rows], 3).write(file)
    search = task.beam_search(LanguageModelSpec(path=str(file), beam_size=50, word_score=1.0), rows)
    logits, lengths = logits_of(task, ["IN|%|YQRK|]|@|TADAY|]|"])
    assert task.decode(logits, lengths) == ["IN [GPE: YQRK ] [DATE: TADAY ]"]
    assert search(10 * logits, lengths) == ["IN [GPE: YORK ] [DATE: TODAY ]"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, r"transcript.*'bad' \(dev\)"),
        ({"text": "Hello"}, r"spell.*'bad' \(dev\)"),
        ({"entities": None}, r"entities.*'bad' \(dev\).*empty one"),
        ({"entities": (Entity("ORG", 30, 9),)}, r"'bad' \(dev\).*at 30, 9 long, is not in its text"),
        ({"entities": (Entity("ORG", -2, 2),)}, "is not in its text"),
        ({"entities": (Entity("ORG", 3, 5),)}, "no phrase"),
        ({"entities": (Entity("ORG", 4, 3), Entity("GPE", 6, 4))}, "overlaps"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_used(changes: dict[str, object], message: str) -> None:
    bad = replace(U, id="bad", split="dev", **changes)  # type: ignore[arg-type]
    with pytest.raises(MissingError, match=message):
        NER(NEROptions()).prepare({"train": [U], "dev": [bad]})
    with pytest.raises(MissingError, match="bad"):
        NER(NEROptions()).encode(bad)


def test_a_corpus_without_any_entity() -> None:
    with pytest.raises(MissingError, match="no utterance of the corpus has an entity"):
        prepared(row("NOTHING"), row("AT ALL"))
    assert prepared(row("NOTHING"), U).reference(row("NOTHING")) == "NOTHING"


def test_learns_what_the_features_say() -> None:
    """Two frames per symbol, each symbol its own direction: a linear head reads it off."""
    torch.manual_seed(0)
    rows = [U, row("HE MET ANN TODAY", ("PERSON", "ANN"), ("DATE", "TODAY")), row("NO ONE")]
    task = prepared(*rows, layers=0)
    targets = [task.encode(u) for u in rows]
    # A blank after each symbol, so that equal neighbours stay two.
    features = [torch.eye(51)[torch.stack([t, torch.zeros_like(t)], 1).flatten()] for t in targets]
    batch = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    lengths = torch.tensor([len(f) for f in features])
    head = task.head(51)
    optimizer = torch.optim.Adam(head.parameters(), 5e-2)
    for _ in range(100):
        optimizer.zero_grad()
        task.loss(*head(batch, lengths), targets).backward()
        optimizer.step()
    lines = task.decode(*head(batch, lengths))
    assert lines == [task.reference(u) for u in rows]
    f1 = METRICS[0]
    found = [Prediction(u.id, task.reference(u), h) for u, h in zip(rows, lines, strict=True)]
    assert f1.combine(sum(map(f1.counts, found))) == 100  # type: ignore[arg-type]
