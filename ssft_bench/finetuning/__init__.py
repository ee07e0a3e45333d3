"""Protocol finetuned: the upstream learns with the head.

An upstream's expert may say more than s3prl asks of it. Each of these is optional, and all but the first
are asked for in this protocol only:

    check_protocol(protocol: str) -> None
        Before any work: raises UsageError for a protocol that makes no sense for it.
    always_trained: Sequence[str]
        Prefixes of names in `expert.named_parameters()`: modules on top of the encoder that learn from
        the first update, whatever `finetune.trainable` and `finetune.frozen_steps` say of the encoder.
    begin(splits: Mapping[str, Sequence[Utterance]], seed: int, folder: Path) -> None
        Once, before training: all rows of the corpus, and the run's folder.
    batches(rows, seconds, *, batch_size, batch_seconds, seed, epoch) -> list[list[int]]
        One pass over the training rows in an order of its own, as indices; see `batches.Order`.
    expect(utterances: Sequence[Utterance]) -> None
        Before each batch: whose waveforms the next forward passes get, in their order. One pass gets the
        whole batch, or as many passes as there are recordings get one each.
    auxiliary_loss(utterances: Sequence[Utterance]) -> tuple[Tensor, Mapping[str, float]]
        After the forward passes of a training batch: what is added to the task's loss, weighted already,
        and numbers to log.
    describe() -> dict
        After training: what the record says of it.

Written for `ssft_bench.upstreams.context`, which has all of them.
"""
