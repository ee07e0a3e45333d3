"""The batches of one pass over the training data as s3prl 0.4.18 makes them; it then shuffles them.

They are not what `batch_size` in SUPERB's configurations suggests. Lengths are in samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence

ASR_BUCKET = 32
"""`batch_size` of downstream/asr/config.yaml."""
ASR_HALVED_ABOVE = 2000
"""HALF_BATCHSIZE_TIME of downstream/asr/dataset.py: an eighth of a second, so every full bucket is."""
PR_BUCKET = 16
"""`batch_size` of downstream/ctc/libriphone.yaml."""
PR_HALVED_ABOVE = 300_000
"""half_batch_size_wav_len of downstream/ctc/data.py."""


def asr_batches(samples: Sequence[int]) -> list[list[int]]:
    """Buckets of 32 in order of length, longest first, each cut in two; what is left stays together.

    So 28,539 utterances give 1,783 batches: 1,782 of 16, and one of 27. A single one left is dropped.
    """
    order = sorted(range(len(samples)), key=lambda i: -samples[i])
    batches = []
    for first in range(0, len(order), ASR_BUCKET):
        bucket = order[first : first + ASR_BUCKET]
        full = len(bucket) == ASR_BUCKET
        if full and samples[bucket[0]] > ASR_HALVED_ABOVE:
            batches += [bucket[: ASR_BUCKET // 2], bucket[ASR_BUCKET // 2 :]]
        elif len(bucket) > 1:
            batches.append(bucket)
    return batches


def pr_batches(phones: Sequence[int], samples: Sequence[int]) -> list[list[int]]:
    """As many batches as utterances: each starts one with its 15 neighbours in order of phone count.

    Most phones first; the last 15 utterances start where the last whole batch does. Only the first 8 are
    kept where the first one is longer than 300,000 samples. `phones` are counts per utterance.
    """
    order = sorted(range(len(phones)), key=lambda i: -phones[i])
    batches = []
    for place in range(len(order)):
        first = max(0, min(len(order) - PR_BUCKET, place))
        bucket = order[first : first + PR_BUCKET]
        halved = samples[bucket[0]] > PR_HALVED_ABOVE and len(bucket) > 1
        batches.append(bucket[: len(bucket) // 2] if halved else bucket)
    return batches
