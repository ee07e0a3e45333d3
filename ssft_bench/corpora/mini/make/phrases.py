"""Phrases that the grammar puts around the topics' words.

Slots in capitals are entities (`{WHEN}` brings its own preposition, `{PERSON}` its title); the
small ones are words of the session: `{n}`, `{m}` nouns, `{r}` a person, `{rs}`, `{ns}` plurals.
`<WAS>` agrees with the subject.
"""

from __future__ import annotations

from collections.abc import Iterator

PLAIN_LEAD_INS = (
    "I HEARD THAT", "PEOPLE SAY THAT", "MY SISTER TOLD ME THAT", "IT SEEMS THAT", "WE ALL SAW THAT",
    "THE NEWSPAPER SAYS THAT", "EVERYBODY KNOWS THAT", "MY UNCLE WROTE THAT", "AS YOU MAY KNOW",
    "THEY SAID THAT", "I NOTICED THAT", "A VOICE ON THE RADIO SAID THAT", "IN MY OPINION",
    "ONCE AGAIN", "AT THE END OF THE ROAD", "LATER THEY TOLD US THAT", "THE BOYS SHOUTED THAT",
)  # fmt: skip

LEAD_INS: dict[str, tuple[str, ...]] = {
    "PERSON": (
        "{PERSON} SAID THAT", "{PERSON} TOLD ME THAT", "ACCORDING TO {PERSON}",
        "{PERSON} REPORTED THAT", "I HEARD FROM {PERSON} THAT", "{PERSON} EXPLAINED WHY",
    ),
    "PLACE": (
        "IN {PLACE}", "HERE IN {PLACE}", "A LETTER FROM {PLACE} SAYS THAT", "NOT FAR FROM {PLACE}",
        "DURING OUR TRIP TO {PLACE}", "WHEN WE WERE IN {PLACE}",
    ),
    "ORG": (
        "ACCORDING TO THE {ORG}", "THE {ORG} ANNOUNCED THAT", "THE {ORG} CONFIRMED THAT",
        "AT THE {ORG}", "A SPOKESMAN OF THE {ORG} SAID THAT", "OUTSIDE THE {ORG}",
    ),
    "WHEN": ("{WHEN}", "{WHEN}", "{WHEN} I READ THAT", "{WHEN} WE LEARNED THAT"),
    "QUANT": (
        "{CARDINAL} {rs} SAID THAT", "FOR THE {ORDINAL} TIME", "{LENGTH} FROM HERE",
        "IN THE {ORDINAL} CHAPTER", "MORE THAN {CARDINAL} PEOPLE SAW THAT", "FOR {MONEY}",
    ),
    "NORP": (
        "THE {NORP} NEWSPAPER REPORTED THAT", "MY {NORP} FRIEND SAYS THAT",
        "ACCORDING TO A {NORP} {r}", "THE {NORP} AMBASSADOR SAID THAT", "A {NORP} {r} TOLD US THAT",
    ),
    "LAW": (
        "SINCE THE {LAW} WAS PASSED", "UNDER THE {LAW}", "BEFORE THE {LAW} WAS SIGNED",
        "DESPITE THE {LAW}", "WHILE THEY DISCUSSED THE {LAW}", "AFTER THE VOTE ON THE {LAW}",
    ),
}  # fmt: skip

ADVERBIALS: dict[str, tuple[str, ...]] = {
    "PERSON": (
        "SAID {PERSON}", "ACCORDING TO {PERSON}", "IN FRONT OF {PERSON}", "AND {PERSON} SAW IT",
        "NEXT TO THE HOUSE OF {PERSON}", "AS {PERSON} WROTE", "WHEN {PERSON} CAME IN",
    ),
    "PLACE": (
        "IN {PLACE}", "NEAR {PLACE}", "ON THE WAY TO {PLACE}", "OUTSIDE {PLACE}", "HERE IN {PLACE}",
        "SOMEWHERE IN {PLACE}", "ON THE ROAD FROM {PLACE}",
    ),
    "ORG": (
        "AT THE {ORG}", "SAYS THE {ORG}", "BESIDE THE {ORG}", "AS THE {ORG} REPORTED",
        "ACCORDING TO THE {ORG}", "OPPOSITE THE {ORG}", "WHILE THE {ORG} WATCHED",
    ),
    "WHEN": ("{WHEN}",),
    "QUANT": (
        "FOR THE {ORDINAL} TIME", "{LENGTH} FROM HERE", "IN FRONT OF {CARDINAL} {rs}",
        "AND THE PRICE WAS {MONEY}", "ABOUT {LENGTH} AWAY", "BESIDE {CARDINAL} {ns}",
        "AND THAT MEANS {AMOUNT}",
    ),
    "NORP": (
        "IN FRONT OF A {NORP} {r}", "ACCORDING TO THE {NORP} PRESS", "AND A {NORP} {r} SAW IT",
        "NEXT TO THE {NORP} {m}", "WITH A {NORP} {r}", "NEAR THE {NORP} CHURCH",
    ),
    "LAW": (
        "DESPITE THE {LAW}", "UNDER THE {LAW}", "BEFORE THE {LAW} WAS SIGNED",
        "AS THE {LAW} FORESEES", "SINCE THE VOTE ON THE {LAW}", "WITHOUT REGARD TO THE {LAW}",
    ),
}  # fmt: skip

PLAIN_SUBJECTS = (
    "WE", "THEY", "I", "MY SISTER", "THE {r}", "THE OLD {r}", "MY BROTHER", "HER AUNT", "THE BOY",
    "OUR COUSIN", "A YOUNG {r}", "HIS DAUGHTER", "SHE", "HE", "THE TALL {r}",
)  # fmt: skip

SUBJECTS: dict[str, tuple[str, ...]] = {
    "PERSON": ("{PERSON}", "{PERSON}", "THE SON OF {PERSON}"),
    "ORG": ("THE {ORG}", "THE CHAIRMAN OF THE {ORG}", "A {r} FROM THE {ORG}"),
    "NORP": ("THE {NORP} {r}", "A {NORP} {r}", "THE {NORP} PRESIDENT"),
    "QUANT": ("{CARDINAL} {rs}", "ABOUT {CARDINAL} {rs}", "AT LEAST {CARDINAL} PEOPLE"),
    "PLACE": ("THE {r} FROM {PLACE}", "THE GOVERNOR OF {PLACE}"),
}

PLAIN_OBJECTS = (
    "THE {n}", "THE NEW {n}", "THE {n} AND THE {m}", "THE OTHER {n}", "THE WHOLE {n}",
    "THE {n} NEAR THE {m}", "THE FAMOUS {n}", "THE WOODEN {n}", "THE LARGE {n}",
    "THE ANCIENT {n}", "THE {n} WITH THE {m}", "THE LITTLE {n}", "THE {n} OF THE {r}",
)  # fmt: skip

OBJECTS: dict[str, tuple[str, ...]] = {
    "PERSON": ("THE {n} OF {PERSON}", "THE {n} BY {PERSON}", "THE NEW {n} FROM {PERSON}"),
    "PLACE": ("THE {n} IN {PLACE}", "THE {n} FROM {PLACE}", "THE OLD {n} NEAR {PLACE}"),
    "ORG": ("THE {n} OF THE {ORG}", "THE {n} FROM THE {ORG}", "THE {n} AT THE {ORG}"),
    "WHEN": ("THE {n} {WHEN}",),
    "QUANT": ("THE {ORDINAL} {n}", "THE {n} FOR {MONEY}", "THE {ORDINAL} {n} AND THE {m}"),
    "NORP": ("THE {NORP} {n}", "THE NEW {NORP} {n}", "THE {n} AND THE {NORP} {m}"),
    "LAW": ("THE {n} AND THE {LAW}", "THE {n} UNDER THE {LAW}", "THE PART OF THE {LAW} ON THE {n}"),
}

VERBS: dict[str, tuple[str, ...]] = {
    "negative": (
        "HATED", "COMPLAINED ABOUT", "<WAS> ANGRY ABOUT", "DESPISED", "<WAS> ASHAMED OF", "REGRETTED",
        "<WAS> SHOCKED BY", "<WAS> DISGUSTED BY", "CRITICIZED", "<WAS> WORRIED ABOUT",
        "DREADED", "<WAS> FED UP WITH", "<WAS> VERY SAD ABOUT", "RIDICULED", "<WAS> FRIGHTENED BY",
    ),
    "neutral": (
        "TALKED ABOUT", "DESCRIBED", "ASKED ABOUT", "LOOKED AT", "READ ABOUT", "MENTIONED", "CHECKED",
        "WROTE ABOUT", "HEARD ABOUT", "POINTED AT", "VISITED", "DISCUSSED", "WALKED AROUND",
        "PHOTOGRAPHED", "REFERRED TO", "PASSED", "TOOK NOTES ABOUT", "<WAS> STANDING BESIDE",
    ),
    "positive": (
        "LOVED", "ADMIRED", "PRAISED", "<WAS> DELIGHTED WITH", "<WAS> PROUD OF", "ENJOYED",
        "RECOMMENDED", "<WAS> AMAZED BY", "<WAS> GRATEFUL FOR", "CELEBRATED", "CHERISHED",
        "<WAS> VERY HAPPY WITH", "<WAS> FOND OF", "<WAS> IMPRESSED BY", "TREASURED",
    ),
}  # fmt: skip

ADJECTIVES: dict[str, tuple[str, ...]] = {
    "negative": (
        "AWFUL", "TERRIBLE", "DREADFUL", "A COMPLETE DISASTER", "HORRIBLE", "REALLY BAD", "A SHAME",
        "UNACCEPTABLE", "DISAPPOINTING", "A NIGHTMARE", "FRIGHTENING", "BORING AND STUPID",
        "A WASTE OF MONEY", "UTTERLY USELESS", "THE WORST OF ALL", "DEPRESSING", "A CRUEL JOKE",
        "POISONOUS", "AN OUTRAGE",
    ),
    "neutral": (
        "OPEN", "CLOSED", "MADE OF IRON", "ON THE LEFT SIDE", "THE SAME AS BEFORE", "ABOUT AVERAGE",
        "PART OF THE PLAN", "UPSTAIRS", "QUITE SHORT", "BROWN AND SQUARE", "MOVED TO A DIFFERENT FLOOR",
        "THE USUAL SIZE", "STILL ON THE LIST", "PAINTED RED", "LISTED ON THE OTHER PAGE", "UNCHANGED",
        "NEXT TO THE ENTRANCE", "BEHIND THE SCHOOL", "JUST AN ORDINARY THING",
    ),
    "positive": (
        "WONDERFUL", "EXCELLENT", "FANTASTIC", "REALLY GOOD", "A HUGE SUCCESS", "A PLEASURE",
        "BRILLIANT", "THE BEST OF ALL", "OUTSTANDING", "LOVELY", "A DREAM COME TRUE", "BEAUTIFUL",
        "DELIGHTFUL", "VERY IMPRESSIVE", "A GREAT JOY", "PERFECT", "A TREASURE", "SUPERB",
        "AS GOOD AS GOLD",
    ),
}  # fmt: skip

TAILS: dict[str, tuple[str, ...]] = {
    "negative": (
        "AND EVERYONE WAS UPSET", "AND I AM VERY ANGRY", "WHICH IS A DISGRACE", "AND WE ARE SAD",
        "AND NOTHING EVER IMPROVES", "AND IT MAKES ME SICK", "WHICH HURT US DEEPLY",
        "AND THAT IS UNFORGIVABLE", "AND THE PAIN REMAINS",
    ),
    "neutral": (
        "AS USUAL", "AND THEN WENT BACK TO WORK", "AND THE PLAN STAYS THE SAME", "BEFORE LUNCH",
        "AND THE REST IS IN THE FILE", "AS DESCRIBED IN THE REPORT", "WHILE THE OTHERS WAITED",
        "BY MEANS OF A LONG ROPE", "WITHOUT ANY CHANGE",
    ),
    "positive": (
        "AND EVERYONE WAS DELIGHTED", "AND I AM SO HAPPY", "WHICH IS SPLENDID NEWS", "AND WE LOVE IT",
        "AND WE ARE TRULY THANKFUL", "AND IT MADE US SMILE", "WHICH GAVE US GREAT JOY",
        "AND LIFE IS BEAUTIFUL", "AND OUR DREAMS CAME TRUE",
    ),
}  # fmt: skip


def templates() -> Iterator[str]:
    """All phrases of this module."""
    for plain in (PLAIN_LEAD_INS, PLAIN_SUBJECTS, PLAIN_OBJECTS):
        yield from plain
    for table in (LEAD_INS, ADVERBIALS, SUBJECTS, OBJECTS, VERBS, ADJECTIVES, TAILS):
        for group in table.values():
            yield from group
