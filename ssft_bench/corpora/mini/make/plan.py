"""Who says what under which conditions: the whole corpus as a list, before any sound is made."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ssft_bench.corpora.mini.make import entities as ent
from ssft_bench.corpora.mini.make import grammar
from ssft_bench.corpora.mini.make.acoustics import Conditions, draw_conditions
from ssft_bench.corpora.mini.make.lexicon import phones_of
from ssft_bench.corpora.mini.make.topics import TOPICS
from ssft_bench.corpora.mini.make.voices import VOICES, Voice

MINUTES = {"train": 40.0, "dev": 8.2, "test": 8.2}
# For planning only; the voices really speak 10.8 to 13.3 phones a second (mean 11.5), so that the
# corpus comes out some 7 % longer than MINUTES. Kept: another number means another corpus.
PHONES_PER_SECOND = 12.3
EDGE_SECONDS = 0.3  # silence left at the two ends together
PHONE_RANGE = (32, 74)  # about 2.5 to 7 s
SESSION_LENGTHS = (4, 5, 6, 7, 8)
QUERIES_PER_SPLIT = 28
MIN_QUERY_PHONES = 5
QUERY_DOCUMENTS = (3, 0.25)  # at least this many utterances, at most this share of them

Item = TypeVar("Item")


@dataclass
class Utterance:
    """One row of the manifest to be."""

    id: str
    kind: str
    split: str
    voice: Voice
    text: str
    conditions: Conditions
    phones: list[str] = field(default_factory=list)
    entities: list[ent.Entity] = field(default_factory=list)
    sentiment: str | None = None
    session: str | None = None
    segment: int | None = None


class Deck(Generic[Item]):
    """Cards dealt in shuffled rounds: random order, yet balanced over any longer stretch."""

    def __init__(self, cards: Sequence[Item], rng: random.Random) -> None:
        self._cards, self._rng, self._left = list(cards), rng, list[Item]()

    def deal(self) -> Item:
        """The next card."""
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        return self._left.pop()

    def deal_distinct(self, count: int) -> list[Item]:
        """`count` different cards; a repeated one goes under the pile."""
        chosen: list[Item] = []
        while len(chosen) < count:
            card = self.deal()
            if card in chosen:
                self._left.insert(0, card)
            else:
                chosen.append(card)
        return chosen


@dataclass
class Speaker:
    """A voice with its own balanced decks, so that labels do not depend on the speaker."""

    voice: Voice
    sentiments: Deck[str]
    counts: Deck[int]
    tags: Deck[str]
    seconds: float = 0.0


def _speakers(split: str, rng: random.Random) -> list[Speaker]:
    sentiments = ["negative"] * 3 + ["neutral"] * 4 + ["positive"] * 3
    return [
        Speaker(
            voice,
            Deck(sentiments, rng),
            Deck([0] * 4 + [1] * 3 + [2] * 2 + [3], rng),
            Deck(ent.TAGS, rng),
        )
        for voice in VOICES
        if voice.split == split
    ]


def new_sentence(
    speaker: Speaker,
    draw: Callable[[str, list[str]], grammar.Sentence],
    used: set[str],
    fits: Callable[[str], bool] = lambda text: True,
) -> grammar.Sentence:
    """A fitting sentence that no one has said yet, from `draw(sentiment, tags)`; it is then used."""
    sentiment, count = speaker.sentiments.deal(), speaker.counts.deal()
    tags = speaker.tags.deal_distinct(count)
    for _ in range(1000):
        sentence = draw(sentiment, tags)
        if sentence.text not in used and fits(sentence.text):
            used.add(sentence.text)
            return sentence
    raise RuntimeError(f"no new sentence with {tags}")


def most_behind(speakers: Sequence[Speaker], jitter: float, rng: random.Random) -> Speaker:
    """Who lags most behind his share: shares are met, in an order without pattern (`jitter`, seconds)."""
    return min(speakers, key=lambda s: (s.seconds + rng.random() * jitter) / s.voice.share)


def _split_utterances(
    split: str, used: set[str], lexicon: Mapping[str, list[str]], seed: int
) -> Iterator[Utterance]:
    """All utterances of a split, session by session."""
    rng = random.Random(f"{seed}/{split}")
    speakers = _speakers(split, rng)
    topics, lengths = Deck(list(TOPICS), rng), Deck(SESSION_LENGTHS, rng)
    number = 0

    def fits(text: str) -> bool:
        return PHONE_RANGE[0] <= len(phones_of(text, lexicon)) <= PHONE_RANGE[1]

    while sum(speaker.seconds for speaker in speakers) < MINUTES[split] * 60:
        speaker = most_behind(speakers, 20, rng)
        number += 1
        session = grammar.new_session(topics.deal(), rng)
        name = f"{split}-s{number:03d}"

        def draw(
            sentiment: str, tags: list[str], now: grammar.Session = session
        ) -> grammar.Sentence:
            return grammar.sentence(now, sentiment, tags, rng)

        for segment in range(lengths.deal()):
            sentence = new_sentence(speaker, draw, used, fits)
            conditions = draw_conditions(rng)
            phones = phones_of(sentence.text, lexicon)
            speaker.seconds += EDGE_SECONDS + len(phones) / PHONES_PER_SECOND / conditions.speed
            yield Utterance(
                f"{name}-{segment}", "utterance", split, speaker.voice, sentence.text, conditions,
                phones, sentence.entities, sentence.sentiment, name, segment,
            )  # fmt: skip


def _sounds(query: Sequence[str], document: Sequence[str]) -> bool:
    """Are the query's phones in the document's, be it inside another word (a plural, say)?"""
    return f" {' '.join(query)} " in f" {' '.join(document)} "


def choose_queries(
    documents: Sequence[Utterance],
    lexicon: Mapping[str, list[str]],
    rng: random.Random,
    count: int = QUERIES_PER_SPLIT,
) -> list[str]:
    """At most `count` words (and a few entity phrases) that occur in the wanted share of the utterances.

    A query whose sounds are also heard where its word is not written is left out.
    """
    counts: Counter[str] = Counter()
    for document in documents:
        found = {word for word in document.text.split() if word not in FUNCTION_WORDS}
        found |= {e.text for e in document.entities if 2 <= len(e.text.split()) <= 3}
        counts.update(found)
    low, high = QUERY_DOCUMENTS[0], QUERY_DOCUMENTS[1] * len(documents)
    fitting = sorted(
        text
        for text, times in counts.items()
        if low <= times <= high
        and len(phones_of(text, lexicon)) >= MIN_QUERY_PHONES
        and times == sum(_sounds(phones_of(text, lexicon), d.phones) for d in documents)
    )
    phrases = [text for text in fitting if " " in text]
    words = [text for text in fitting if " " not in text]
    chosen = rng.sample(phrases, min(4, len(phrases)))
    # a word of a chosen phrase would make a second query out of the same sounds
    taken = {word for phrase in chosen for word in phrase.split()}
    words = [word for word in words if word not in taken]
    return chosen + rng.sample(words, min(count - len(chosen), len(words)))


# said so often or so weakly that they are no query: small words and the grammar's frames
FUNCTION_WORDS = frozenset(
    "ACCORDING ABOUT ANOTHER BEFORE BESIDE DESPITE EVERYBODY OUTSIDE WITHOUT SINCE OTHERS".split()
)


def queries(
    split: str,
    documents: Sequence[Utterance],
    lexicon: Mapping[str, list[str]],
    seed: int,
    everyone: Sequence[Voice],
    count: int = QUERIES_PER_SPLIT,
) -> Iterator[Utterance]:
    """Isolated words, each by a voice of the split that says it least in the documents."""
    rng = random.Random(f"{seed}/{split}/queries")
    voices = [voice for voice in everyone if voice.split == split and voice.queries]
    turns: Counter[str] = Counter()
    for number, text in enumerate(choose_queries(documents, lexicon, rng, count)):
        said: Counter[str] = Counter(
            d.voice.speaker for d in documents if _sounds(phones_of(text, lexicon), d.phones)
        )
        voice = min(voices, key=lambda v: (said[v.speaker], turns[v.speaker], v.speaker))
        turns[voice.speaker] += 1
        conditions = draw_conditions(rng, gentle=True)
        yield Utterance(
            f"{split}-q{number:02d}", "query", split, voice, text, conditions,
            phones_of(text, lexicon),
        )  # fmt: skip


def make_plan(seed: int, lexicon: Mapping[str, list[str]]) -> list[Utterance]:
    """The corpus: utterances of all splits, then the queries of dev and test."""
    missing = grammar.check_words(set(lexicon))
    if missing:
        raise ValueError(f"words without a pronunciation: {' '.join(missing)}")
    used: set[str] = set()
    plan: list[Utterance] = []
    for split in MINUTES:
        documents = list(_split_utterances(split, used, lexicon, seed))
        plan += documents
        if split != "train":
            plan += queries(split, documents, lexicon, seed, VOICES)
    return plan
