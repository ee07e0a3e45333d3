"""Sentences: an event or an opinion on the session's topic, with labelled phrases around it.

Sentiment is carried by the words of the core clause (and of the tail, where there is one);
entities come from phrases that say nothing good or bad. So the two vary independently.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from ssft_bench.corpora.mini.make import entities as ent
from ssft_bench.corpora.mini.make import names, phrases
from ssft_bench.corpora.mini.make.topics import TOPICS, Topic

SENTIMENTS = ("negative", "neutral", "positive")
# "A" before a vowel sound, also where an entity's mark stands between; not "A USER", "A EUROPEAN"
ARTICLE = re.compile(r"\bA ((?:\[[A-Z]+ )?(?=[AEIOU])(?!US|EU|UNI|ONE))")


@dataclass
class Session:
    """What the segments of one session share: topic words, people, places and so on."""

    topic_name: str
    nouns: list[str]
    people: list[str]
    pool: dict[str, list[str]] = field(default_factory=dict)

    @property
    def topic(self) -> Topic:
        return TOPICS[self.topic_name]


@dataclass(frozen=True)
class Sentence:
    """A sentence with its labels."""

    text: str
    entities: list[ent.Entity]
    sentiment: str


def new_session(topic_name: str, rng: random.Random) -> Session:
    """Draw the shared words of a session."""
    topic = TOPICS[topic_name]
    return Session(
        topic_name,
        rng.sample(topic.nouns, 4),
        rng.sample(topic.people, 2),
        {
            "PERSON": [ent.person_name(rng) for _ in range(2)],
            "PLACE": [ent.place(rng) for _ in range(2)],
            "ORG": [ent.organisation(rng) for _ in range(2)],
            "NORP": rng.sample(names.NATIONALITIES, 2),
            "LAW": [ent.law(rng) for _ in range(2)],
        },
    )


def plural(noun: str) -> str:
    """Regular English plural."""
    if noun.endswith("Y") and noun[-2] not in "AEIOU":
        return noun[:-1] + "IES"
    if noun.endswith("MAN"):
        return noun[:-3] + "MEN"
    return noun + ("ES" if noun.endswith(("S", "X", "CH", "SH")) else "S")


def _fill(template: str, session: Session, rng: random.Random) -> str:
    """Replace the slots of a template; entities are marked `[TAG WORDS]`."""
    first, second = rng.sample(session.nouns, 2)
    person = rng.choice(session.people)
    values = {"n": first, "m": second, "r": person, "rs": plural(person), "ns": plural(first)}
    values["PERSON"] = ent.person_mention(rng, rng.choice(session.pool["PERSON"]))
    for tag in ("PLACE", "ORG", "NORP", "LAW"):
        values[tag] = f"[{tag} {rng.choice(session.pool[tag])}]"
    values["WHEN"] = ent.when(rng)
    values["CARDINAL"] = f"[QUANT {ent.number(rng)}]"
    values["ORDINAL"] = f"[QUANT {rng.choice(names.ORDINALS)}]"
    values["AMOUNT"] = ent.quantity(rng)
    values["MONEY"] = f"[QUANT {ent.number(rng)} {rng.choice(names.MONEY)}]"
    values["LENGTH"] = f"[QUANT {ent.number(rng)} {rng.choice(['MILES', 'KILOMETERS', 'FEET'])}]"
    return template.format_map(values)


def _event(session: Session, sentiment: str, tags: list[str], rng: random.Random) -> str:
    """Lead-in, event of the topic, adverbials; each tag goes to one of the outer places."""
    clause = rng.choice(session.topic.events(sentiment))
    lead, ends = "", [""]
    remaining = list(tags)
    if remaining and rng.random() < 0.5:
        lead = rng.choice(phrases.LEAD_INS[remaining.pop(0)])
    elif rng.random() < 0.45:
        lead = rng.choice(phrases.PLAIN_LEAD_INS)
    ends = [rng.choice(phrases.ADVERBIALS[tag]) for tag in remaining]
    if len(tags) < 2 and rng.random() < 0.4:
        ends.append(rng.choice(phrases.TAILS[sentiment]))
    return " ".join(part for part in (lead, clause, *ends) if part)


def _opinion(session: Session, sentiment: str, tags: list[str], rng: random.Random) -> str:
    """Subject, verb, object and adverbials, or "the object was ..."."""
    remaining = list(tags)
    subject, plural_subject = rng.choice(phrases.PLAIN_SUBJECTS), False
    if remaining and remaining[0] in phrases.SUBJECTS and rng.random() < 0.6:
        tag = remaining.pop(0)
        subject, plural_subject = rng.choice(phrases.SUBJECTS[tag]), tag == "QUANT"
    thing = rng.choice(phrases.PLAIN_OBJECTS)
    if remaining and rng.random() < 0.5:
        thing = rng.choice(phrases.OBJECTS[remaining.pop(0)])
    ends = [rng.choice(phrases.ADVERBIALS[tag]) for tag in remaining]
    if len(tags) < 2 and rng.random() < 0.35:
        ends.append(rng.choice(phrases.TAILS[sentiment]))
    if rng.random() < 0.5:
        was = "WERE" if plural_subject or subject in ("WE", "THEY") else "WAS"
        verb = rng.choice(phrases.VERBS[sentiment]).replace("<WAS>", was)
        parts = [subject, verb, thing]
    else:
        says = rng.choice(("SAID", "THOUGHT", "TOLD US", "WROTE"))
        was = "WERE" if " AND THE " in thing else "WAS"
        parts = [subject, says, "THAT", thing, was, rng.choice(phrases.ADJECTIVES[sentiment])]
    return " ".join([*parts, *ends])


def sentence(session: Session, sentiment: str, tags: list[str], rng: random.Random) -> Sentence:
    """One sentence with the wanted sentiment and exactly these entity types."""
    form = _event if rng.random() < 0.55 else _opinion
    marked = _fill(form(session, sentiment, tags, rng), session, rng)
    text, found = ent.parse(ARTICLE.sub(r"AN \1", marked))
    return Sentence(text, found, sentiment)


def check_words(known: set[str]) -> list[str]:
    """Words of the lists that the lexicon does not know (the builder refuses to go on)."""
    words: set[str] = set()
    lists = [getattr(names, name) for name in dir(names) if name.isupper()]
    for entry in (entry for entries in lists for entry in entries):
        words.update(entry.split())
    for topic in TOPICS.values():
        words.update(topic.nouns, topic.people)
        words.update(plural(noun) for noun in (*topic.nouns, *topic.people))
        templates = [*topic.negative, *topic.neutral, *topic.positive]
        words.update(word for line in templates for word in line.split() if "{" not in word)
    words.update(word for line in phrases.templates() for word in line.split())
    return sorted(w for w in words if w not in known and not set(w) & set("{}<>[]"))
