"""`ssft-bench analyse ...`: what a tuned upstream's hidden states hold, measured and drawn.

Torch, scikit-learn and matplotlib are imported only inside the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssft_bench.analysis.options import (
    EXITS,
    Alignments,
    AsJson,
    CorpusName,
    Data,
    Device,
    DropSilence,
    Layers,
    MaxUtterances,
    Out,
    Pooling,
    Seed,
    Split,
    Upstreams,
    check_out,
    give,
    given,
    open_speech,
    open_upstreams,
    settings_of,
)
from ssft_bench.errors import UsageError

if TYPE_CHECKING:
    from ssft_bench.analysis.codes import Codes
    from ssft_bench.analysis.sources import Speech
    from ssft_bench.upstream import Upstream

analyse_app = typer.Typer(
    help="What is in hidden states: isotropy, phones in codes, speakers, learning speed, words.",
    no_args_is_help=True,
)


@analyse_app.command("isotropy", epilog=EXITS)
def isotropy(
    upstream: Upstreams,
    corpus: CorpusName = "mini",
    split: Annotated[Split, typer.Option(help="Part of the corpus.")] = Split.dev,
    data: Data = None,
    max_utterances: MaxUtterances = None,
    device: Device = "auto",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How evenly pooled utterances fill their space: Mu-Viswanath, mean cosine, IsoScore.

    One vector per utterance: the mean over all hidden states of the mean over time.
    """
    settings = settings_of(locals())
    check_out(out)
    from ssft_bench.analysis import isotropy as analysis
    from ssft_bench.analysis import plots

    found, source = (
        open_upstreams(upstream, device),
        open_speech(corpus, split, data, max_utterances),
    )
    vectors = {one.spec.name: analysis.pooled(one, source) for one in found}
    report, curves = analysis.report(vectors, source, settings)
    give(report, out, as_json, lambda path: plots.isotropy(path, curves, source.origin))


@analyse_app.command("pnmi", epilog=EXITS)
def pnmi(
    upstream: Upstreams,
    alignments: Alignments = None,
    corpus: CorpusName = "mini",
    split: Annotated[Split, typer.Option(help="Part that is scored.")] = Split.test,
    fit_split: Annotated[Split, typer.Option(help="Part that k-means learns from.")] = Split.train,
    data: Data = None,
    max_utterances: MaxUtterances = None,
    layer: Annotated[
        int | None, typer.Option(help="Hidden state; default: the codebook's, else the last.")
    ] = None,
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="k-means on every layer.")
    ] = False,
    clusters: Annotated[int, typer.Option(min=2, help="Codes of k-means.")] = 100,
    kmeans: Annotated[
        bool, typer.Option("--kmeans", help="k-means also where the upstream has a codebook.")
    ] = False,
    drop_silence: DropSilence = False,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Utterances are cut after this time (Spin: 10 s).")
    ] = 10.0,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How much the codes of frames tell of phones: PNMI, phone purity, cluster purity.

    Codes are those of SPIN's codebook where the upstream carries one, else k-means.
    """
    settings = settings_of(locals())
    check_out(out)
    from ssft_bench.analysis import plots
    from ssft_bench.analysis import pnmi as analysis
    from ssft_bench.analysis.alignments import read_alignments

    if all_layers and layer is not None:
        raise UsageError("--all-layers and --layer exclude each other")
    aligned = read_alignments(given(alignments))
    source = open_speech(corpus, split, data, max_utterances)
    phones = analysis.Phones(source, aligned, drop_silence, max_seconds)
    phones.utterances()  # fails before any long work
    fit = open_speech(corpus, fit_split, data, max_utterances)
    rows: list[dict[str, Any]] = []
    for one in open_upstreams(upstream, device):
        wanted = "all" if all_layers else str(-1 if layer is None else layer)
        plain = kmeans or all_layers
        coders = _coders(one, fit, wanted, layer is None, plain, clusters, seed)
        rows += analysis.measure(one, coders, phones, seed)
    panel = {"key": "pnmi", "label": "PNMI", "chance": "pnmi_shuffled"}
    title = f"Phones in codes: {source.origin}"
    give(
        analysis.report(rows, phones, settings), out, as_json,
        lambda path: plots.over_layers(path, rows, [panel], title),
    )  # fmt: skip


def _coders(
    one: Upstream, fit: Speech, wanted: str, any_layer: bool, plain: bool, clusters: int, seed: int
) -> list[Codes]:
    """The upstream's codebook where it is wanted and there, else k-means on the layers."""
    from ssft_bench.analysis.codes import codebook_of, fit_kmeans
    from ssft_bench.analysis.sources import chosen_layers

    layers = chosen_layers(wanted, one.spec.num_layers, one.spec.name)
    codebook = None if plain else codebook_of(one)
    if codebook is not None and (any_layer or layers == [codebook.layer]):
        return [codebook]
    return fit_kmeans(one, fit, layers, clusters, seed)


@analyse_app.command("speaker-probe", epilog=EXITS)
def speaker_probe(
    upstream: Upstreams,
    corpus: CorpusName = "mini",
    split: Annotated[Split, typer.Option(help="Part of the corpus.")] = Split.train,
    data: Data = None,
    max_utterances: MaxUtterances = None,
    layers: Layers = "all",
    alignments: Alignments = None,
    drop_silence: DropSilence = False,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of each speaker's utterances held out.")
    ] = 0.25,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What a linear probe of each layer tells of the speaker and, with --alignments, of phones."""
    settings = settings_of(locals())
    check_out(out)
    from ssft_bench.analysis import plots
    from ssft_bench.analysis import speaker_probe as analysis
    from ssft_bench.analysis.alignments import read_alignments
    from ssft_bench.analysis.sources import chosen_layers

    source = open_speech(corpus, split, data, max_utterances)
    halves = analysis.split_by_speaker(source.utterances, held_out, seed)
    phones = None
    if alignments:
        aligned = read_alignments(alignments)
        phones = analysis.phone_task(halves, aligned, drop_silence=drop_silence)
    rows: list[dict[str, Any]] = []
    for one in open_upstreams(upstream, device):
        chosen = chosen_layers(layers, one.spec.num_layers, one.spec.name)
        rows += analysis.measure(one, chosen, halves, phones, seed)
    panels = [
        {"key": f"{what}_accuracy", "label": f"{what} accuracy (%)", "band": f"{what}_ci95",
         "chance": f"{what}_chance"}
        for what in ("speaker", "phone") if f"{what}_accuracy" in rows[0]
    ]  # fmt: skip
    title = f"Linear probes: {source.origin}"
    give(
        analysis.report(rows, source, halves, settings), out, as_json,
        lambda path: plots.over_layers(path, rows, panels, title),
    )  # fmt: skip


@analyse_app.command("convergence", epilog=EXITS)
def convergence(
    base: Annotated[
        list[Path], typer.Option("--base", help="Folder of a run; one, or one per --tuned.")
    ],
    tuned: Annotated[list[Path], typer.Option("--tuned", help="Folder of a run; repeatable.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How soon a tuned upstream's head reaches the base's best dev score, from finished runs.

    The runs of a pair must differ in their upstream only.
    """
    settings = settings_of(locals())
    check_out(out)
    from ssft_bench.analysis import convergence as analysis
    from ssft_bench.analysis import plots

    pairs = analysis.pairs_of(base, tuned)
    give(
        analysis.report(pairs, settings), out, as_json,
        lambda path: plots.convergence(path, pairs),
    )  # fmt: skip


@analyse_app.command("spotting", epilog=EXITS)
def spotting(
    upstream: Upstreams,
    corpus: Annotated[str, typer.Option(help="Corpus with isolated terms.")] = "mini",
    data: Data = None,
    layers: Layers = "-1",
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Spotting of spoken terms: an isolated term asks for the utterances that say it; MAP and chance."""
    settings = settings_of(locals())
    check_out(out)
    from ssft_bench.analysis import plots
    from ssft_bench.analysis import spotting as analysis
    from ssft_bench.analysis.sources import chosen_layers
    from ssft_bench.data import open_corpus

    opened = open_corpus(corpus, data)
    splits = analysis.terms(opened)
    rows: list[dict[str, Any]] = []
    for one in open_upstreams(upstream, device):
        chosen = chosen_layers(layers, one.spec.num_layers, one.spec.name)
        rows += analysis.measure(one, chosen, splits, seed=seed)
    panel = {"key": "map", "label": "MAP (%)", "band": "map_ci95", "chance": "chance"}
    give(
        analysis.report(rows, opened, settings), out, as_json,
        lambda path: plots.over_layers(path, rows, [panel], f"Spotting: corpus {corpus}"),
    )  # fmt: skip


@analyse_app.command("retrieval", epilog=EXITS)
def retrieval(
    upstream: Upstreams,
    words: Annotated[
        Path | None, typer.Option(help="Folder of isolated words, <word>/*.flac (.wav, .ogg).")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Corpus with isolated terms, or with --alignments any.")
    ] = None,
    alignments: Alignments = None,
    split: Annotated[
        Split, typer.Option(help="Part of the corpus, with --alignments.")
    ] = Split.test,
    data: Data = None,
    max_utterances: MaxUtterances = None,
    layers: Layers = "-1",
    max_per_word: Annotated[
        int | None, typer.Option(min=2, help="At most so many recordings of a word.")
    ] = None,
    min_seconds: Annotated[
        float, typer.Option(min=0.0, help="Shortest word cut out by --alignments.")
    ] = 0.3,
    pooling: Annotated[
        Pooling, typer.Option(help="dtw, or mean over time as a control.")
    ] = Pooling.dtw,
    subtract_mean: Annotated[
        bool,
        typer.Option("--subtract-mean", help="Subtract each recording's mean from its frames."),
    ] = False,
    across_speakers: Annotated[
        bool, typer.Option("--across-speakers", help="Hide the query's own speaker from it.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Only the fifth that the mini models never heard.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Retrieval of isolated words: each recording asks for the others of its word; MAP and chance."""
    settings = settings_of(locals())
    check_out(out)
    from ssft_bench.analysis import plots
    from ssft_bench.analysis import retrieval as analysis
    from ssft_bench.analysis.alignments import read_alignments
    from ssft_bench.analysis.sources import chosen_layers
    from ssft_bench.data import open_corpus

    if pooling is Pooling.mean and subtract_mean:
        raise UsageError("--subtract-mean leaves nothing for --pooling mean: all means become 0")
    if held_out and words is None:
        raise UsageError("--held-out goes with --words FOLDER; a corpus has --split")
    if (words is None) == (corpus is None) or (words is not None and alignments):
        raise UsageError("give either --words FOLDER, or --corpus NAME (with --alignments FILE)")
    if words is not None:
        source = analysis.folder_words(words, held_out_only=held_out)
    elif alignments:
        aligned = read_alignments(alignments)
        source = analysis.cut_words(
            open_speech(str(corpus), split, data, max_utterances), aligned, min_seconds
        )
    else:
        source = analysis.query_words(open_corpus(str(corpus), data))
    source = analysis.chosen(source, max_per_word, seed)
    rows: list[dict[str, Any]] = []
    for one in open_upstreams(upstream, device):
        chosen = chosen_layers(layers, one.spec.num_layers, one.spec.name)
        rows += analysis.measure(
            one, chosen, source, pooling=pooling.value, subtract_mean=subtract_mean,
            across_speakers=across_speakers, seed=seed,
        )  # fmt: skip
    panel = {"key": "map", "label": "MAP (%)", "band": "map_ci95", "chance": "chance"}
    give(
        analysis.report(rows, source, settings), out, as_json,
        lambda path: plots.over_layers(path, rows, [panel], f"Retrieval: {source.origin}"),
    )  # fmt: skip
