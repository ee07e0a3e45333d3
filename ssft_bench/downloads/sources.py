"""Where corpora are downloaded from, and by what their bytes are known.

Digests are facts of others, never our own first download: SHA-256 sums from torchaudio's
`datasets/{librispeech,librilight_limited,quesst14}.py`, git object names from the repositories themselves.
Where neither exists, nothing is verified, and `ssft-bench data get` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ssft_bench.corpora.librispeech import LEXICA
from ssft_bench.corpora.slue import with_labels
from ssft_bench.errors import UsageError
from ssft_bench.names import unknown


@dataclass(frozen=True)
class Place:
    """Something in an archive, and where it belongs."""

    inside: str
    """Path in the archive; empty for a download that is no archive."""
    target: str
    """Path below --data."""
    git: str | None = None
    """Name of the git tree or blob that it must be."""
    optional: bool = False
    """Whether the archive may lack it."""


@dataclass(frozen=True)
class Source:
    """One file to download."""

    url: str
    file: str
    """Name of the download."""
    places: tuple[Place, ...]
    """Where its parts go; a target that exists is left alone."""
    sha256: str | None = None
    """Digest of the download, as published."""
    digest_from: str = ""
    """Who publishes it."""
    expected: int | None = None
    """About its size in bytes, where the server does not tell."""
    part: str | None = None
    """Name for --part where a corpus has several; None: always downloaded."""


@dataclass(frozen=True)
class Download:
    """All that belongs to a corpus."""

    sources: tuple[Source, ...]
    parts: tuple[str, ...] = ()
    """Parts that are downloaded when none is named."""
    notes: tuple[str, ...] = field(default=())
    """What the user must know afterwards."""


def download_of(corpus: str) -> Download:
    """What to download for a corpus. Raises UsageError when there is nothing to download, or no such name."""
    if corpus in DOWNLOADS:
        return DOWNLOADS[corpus]
    if corpus in NOT_HERE:
        raise UsageError(f"corpus {corpus}: {NOT_HERE[corpus]}")
    raise unknown("corpus to download", corpus, DOWNLOADS)


def _librispeech(part: str, sha256: str) -> Source:
    places = [Place(f"LibriSpeech/{part}", f"LibriSpeech/{part}")]
    for name in ("README", "LICENSE", "SPEAKERS", "CHAPTERS", "BOOKS"):
        path = f"LibriSpeech/{name}.TXT"
        places.append(Place(path, path, optional=True))
    url = f"https://www.openslr.org/resources/12/{part}.tar.gz"
    return Source(url, f"{part}.tar.gz", tuple(places), sha256, "torchaudio", part=part)


def _lexicon(name: str, blob: str) -> Source:
    folder = "s3prl/downstream/ctc/lexicon"
    url = f"https://raw.githubusercontent.com/s3prl/s3prl/{_S3PRL}/{folder}/{name}"
    return Source(url, name, (Place("", f"lexicon/{name}", blob),))


def _github(
    repository: str, commit: str, name: str, places: dict[str, tuple[str, str]], expected: int
) -> tuple[Source, ...]:
    """A commit's archive; `places` maps a path in the repository to its target and git object."""
    top = f"{repository.partition('/')[2]}-{commit}"
    url = f"https://codeload.github.com/{repository}/tar.gz/{commit}"
    inside = {f"{top}/{path}".rstrip("/"): place for path, place in places.items()}
    where = tuple(Place(i, *place) for i, place in inside.items())
    return (Source(url, f"{name}.tar.gz", where, expected=expected),)


def _slue(part: str) -> Download:
    url = f"https://public-dataset-model-store.awsdev.asapp.com/users/sshon/public/slue/slue-{part}_v0.2_blind.zip"
    place = Place(f"slue-{part}", f"slue-{part}")
    return Download((Source(url, f"slue-{part}_v0.2_blind.zip", (place,)),), notes=(with_labels(),))


_S3PRL = "ec8064b5889f81ca460fbe2c094ce576a6f120b7"
_LIBRISPEECH = tuple(
    _librispeech(part, sha256)
    for part, sha256 in {
        "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
        "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
        "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    }.items()
)
_LEXICA = tuple(
    _lexicon(name, blob)
    for name, blob in zip(
        LEXICA,
        ("a9143b4f90bde7f71221b7e546f780f3b655c8f7", "cdc9ff665e674959c1150c62714150c3d3d0b726"),
        strict=True,
    )
)
_SUPERB = ("train-clean-100", "dev-clean", "test-clean")
_LIBRILIGHT = Source(
    "https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz",
    "librispeech_finetuning.tgz",
    (Place("librispeech_finetuning", "librispeech_finetuning"),),
    "5d1efdc777b548194d7e09ba89126e2188026df9fd57aa57eb14408d2b2342af",
    "torchaudio",
)
_QUESST14 = Source(
    "https://speech.fit.vutbr.cz/files/quesst14Database.tgz",
    "quesst14Database.tgz",
    (Place("quesst14Database", "quesst14Database"),),
    "4f869e06bc066bbe9c5dde31dbd3909a0870d70291110ebbb38878dcbc2fc5e4",
    "torchaudio",
)
_AN4 = _github(
    "cmusphinx/an4",
    "b567d132f43304e70a2b2eca6077f22255311812",
    "an4",
    {"": ("an4", "ef14a568c1f46f4d2b9ce24e178c9c18ff4fe5c9")},
    64_000_000,
)
_KEYWORDS = _github(
    "Picovoice/wake-word-benchmark",
    "84919190fb1891bf0936dcb577d9268e467f876f",
    "keywords",
    {
        "audio": ("keywords/audio", "b07ce5655c35c1e3accac0049ebf48dfa3b2ef04"),
        "LICENSE": ("keywords/LICENSE", "0f015ca49729f0281f1d51d999c70462f664a4d9"),
    },
    130_000_000,
)
_SPEECH_TO_INTENT = _github(
    "Picovoice/speech-to-intent-benchmark",
    "47b1ca63afe4f08cb83e1f70fec16764879bd130",
    "speech_to_intent",
    {
        "data/speech": ("speech_to_intent/data/speech", "11c08edd68c78e127948d1c48f051cdf50df8527"),
        "data/label": ("speech_to_intent/data/label", "6c699edcff53eaff52c4657d80615086f75077e7"),
        "LICENSE": ("speech_to_intent/LICENSE", "261eeb9e9f8b2b4b0d119366dda99c6fd7d35c64"),
    },
    120_000_000,
)

DOWNLOADS = {
    "an4": Download(_AN4),
    "keywords": Download(_KEYWORDS),
    **{
        f"librilight_{size}": Download(
            (_LIBRILIGHT, *_LIBRISPEECH, *_LEXICA), ("dev-clean", "test-clean")
        )
        for size in ("10h", "10min", "1h")
    },
    "librispeech": Download((*_LIBRISPEECH, *_LEXICA), _SUPERB),
    **{
        f"librispeech_rewire_{percent}": Download((*_LIBRISPEECH, *_LEXICA), _SUPERB)
        for percent in (1, 10, 100)
    },
    "quesst14": Download((_QUESST14,)),
    "slue_voxceleb": _slue("voxceleb"),
    "slue_voxpopuli": _slue("voxpopuli"),
    "speech_to_intent": Download(_SPEECH_TO_INTENT),
}
"""Corpus -> what to download."""
NOT_HERE = {
    "mini": "it comes with the package; there is nothing to download",
    "mini_phrases": "it comes with the package; there is nothing to download",
    "folder": "it reads your own recordings; there is nothing to download",
}
