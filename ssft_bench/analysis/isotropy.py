"""How evenly vectors fill their space: three measures, raw and after centring or normalising.

Vectors are pooled as the rewiring loss sees them (Yang et al., Findings of EMNLP 2022): the mean over
all hidden states of the mean over time, one vector per utterance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssft_bench.analysis.report import Column, Report
from ssft_bench.analysis.sources import Speech, Vectors, layer_means
from ssft_bench.errors import UsageError
from ssft_bench.upstream import Upstream

COLUMNS = (
    Column("upstream", "upstream"),
    Column("n", "n"),
    Column("dims", "dims"),
    Column("mean length", "mean_length", ".3g"),
    Column("IS raw", "mu_viswanath_raw", ".3g"),
    Column("IS length 1", "mu_viswanath_unit", ".3g"),
    Column("IS centred", "mu_viswanath_centred", ".3g"),
    Column("IS centred, length 1", "mu_viswanath_centred_unit", ".3g"),
    Column("mean cosine raw", "mean_cosine_raw", ".3f"),
    Column("mean cosine centred", "mean_cosine_centred", ".3f"),
    Column("IsoScore", "isoscore", ".4f"),
    Column("IsoScore length 1", "isoscore_unit", ".4f"),
)
NOTES = (
    "IS: min Z / max Z of Mu and Viswanath (2018), 1 is isotropic; it depends on the vectors' length, "
    "so compare a column with itself only.",
    "Mean cosine: over all pairs of utterances; 0 is isotropic. IsoScore (Rudman et al. 2022): 1 is "
    "isotropic; centring and a common scale do not change it.",
    "Vectors: mean over all hidden states of the mean over time. Length 1: each vector divided by its "
    "norm. Centred: the mean vector subtracted (before the division).",
    "A mean length near 0, as of features normalised over time: what is measured is rounding.",
)


def mu_viswanath(vectors: Vectors) -> float:
    """IS of vectors [n, D]: min_c Z(c) / max_c Z(c), Z(c) = sum_v exp(c . v), in (0, 1].

    c runs over both signs of the eigenvectors of V^T V (Mu and Viswanath, "All-but-the-Top", ICLR
    2018, eq. 5). Computed in log space. Depends on the scale of the vectors.
    Raises ValueError when there is no vector or one is not finite.
    """
    v = _checked(vectors, 1)
    _, axes = np.linalg.eigh(v.T @ v)
    along = v @ axes
    logs = np.concatenate([_log_sum_exp(along), _log_sum_exp(-along)])
    return float(np.exp(logs.min() - logs.max()))


def _log_sum_exp(values: Vectors) -> Vectors:
    """[n, D] -> [D], over the first axis."""
    top = values.max(axis=0)
    return np.asarray(top + np.log(np.exp(values - top).sum(axis=0)))


def mean_cosine(vectors: Vectors) -> float:
    """Mean cosine over all pairs of different vectors [n, D], in O(n D).

    The squared length of the sum of unit vectors is n plus the cosines of all ordered pairs.
    A vector of zeros has cosine 0 with all others. Raises ValueError for fewer than 2 vectors.
    """
    unit = lengths_one(_checked(vectors, 2))
    total = unit.sum(axis=0)
    count = len(unit)
    return float((total @ total - (unit * unit).sum()) / (count * (count - 1)))


def isoscore(vectors: Vectors) -> float:
    """IsoScore of vectors [n, D] in [0, 1] (Rudman et al., Findings of ACL 2022, algorithm 1).

    With s the variances along the principal components, scaled to length sqrt(D): defect
    d = |s - 1| / sqrt(2 (D - sqrt D)), share of dimensions used f = (D - d^2 (D - sqrt D))^2 / D^2,
    score (D f - 1) / (D - 1). With fewer vectors than dimensions it cannot reach 1.
    Raises ValueError for one dimension, fewer than 2 vectors, or vectors that are all the same.
    """
    v = _checked(vectors, 2)
    dims = v.shape[1]
    if dims < 2:
        raise ValueError("IsoScore is not defined in one dimension")
    centred = v - v.mean(axis=0)
    variances = np.zeros(dims)
    found = np.linalg.svd(centred, compute_uv=False) ** 2
    variances[: len(found)] = found
    length = np.linalg.norm(variances)
    if length <= (np.finfo(np.float64).eps * np.abs(v).max()) ** 2 * v.size:
        raise ValueError("IsoScore is not defined for vectors that are all the same")
    scaled = variances * np.sqrt(dims) / length
    defect_squared = ((scaled - 1) ** 2).sum() / (2 * (dims - np.sqrt(dims)))
    used = (dims - defect_squared * (dims - np.sqrt(dims))) ** 2 / dims**2
    return float((dims * used - 1) / (dims - 1))


def lengths_one(vectors: Vectors) -> Vectors:
    """Each of [n, D] divided by its norm; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1))


def _checked(vectors: Vectors, least: int) -> Vectors:
    v = np.asarray(vectors, np.float64)
    if v.ndim != 2 or len(v) < least or v.shape[1] == 0:
        raise ValueError(f"expected at least {least} vectors [n, D], got shape {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError("vectors hold NaN or infinity")
    return v


def measures(vectors: Vectors) -> dict[str, float | None]:
    """Every measure under the name of the variant; IsoScore is None where all vectors are the same."""
    centred = vectors - vectors.mean(axis=0)
    unit, centred_unit = lengths_one(vectors), lengths_one(centred)
    return {
        "mean_length": float(np.linalg.norm(vectors, axis=1).mean()),
        "mu_viswanath_raw": mu_viswanath(vectors),
        "mu_viswanath_unit": mu_viswanath(unit),
        "mu_viswanath_centred": mu_viswanath(centred),
        "mu_viswanath_centred_unit": mu_viswanath(centred_unit),
        "mean_cosine_raw": mean_cosine(vectors),
        "mean_cosine_centred": mean_cosine(centred),
        "isoscore": _isoscore_or_none(vectors),
        "isoscore_unit": _isoscore_or_none(unit),
    }


def _isoscore_or_none(vectors: Vectors) -> float | None:
    try:
        return isoscore(vectors)
    except ValueError:
        return None


def pooled(upstream: Upstream, speech: Speech) -> Vectors:
    """One vector per utterance [n, D]: mean over all hidden states of the mean over time.

    Raises UsageError when the layers differ in width.
    """
    dims = set(upstream.spec.dims)
    if len(dims) > 1:
        raise UsageError(
            f"upstream {upstream.spec.name}: its hidden states have different widths {sorted(dims)}, "
            "so there is no mean over them; look at each upstream alone"
        )
    means = layer_means(upstream, speech.utterances, range(upstream.spec.num_layers))
    return np.asarray(np.mean(means, axis=0))


def report(
    vectors: dict[str, Vectors], speech: Speech, settings: dict[str, Any]
) -> tuple[Report, dict[str, dict[str, Vectors]]]:
    """The table over upstreams, and for each the spectrum and the cosines of the plot."""
    if len(speech.utterances) < 2:
        raise UsageError("isotropy needs at least 2 utterances; raise --max-utterances")
    rows, curves = [], {}
    few: list[str] = []
    for name, v in vectors.items():
        _finite(name, v)
        rows.append({"upstream": name, "n": v.shape[0], "dims": v.shape[1], **measures(v)})
        curves[name] = {"spectrum": spectrum(v), "cosines": pair_cosines(v)}
        few += [name] if v.shape[0] <= v.shape[1] else []
    notes = [f"{speech.origin}.", *NOTES]
    if few:
        notes.append(
            f"Fewer utterances than dimensions for {', '.join(few)}: IsoScore is bounded below 1."
        )
    return Report("isotropy", "Isotropy", COLUMNS, rows, settings, notes), curves


def _finite(name: str, vectors: Vectors) -> None:
    if not np.isfinite(vectors).all():
        raise UsageError(f"upstream {name}: its hidden states hold NaN or infinity")


def spectrum(vectors: Vectors) -> Vectors:
    """Singular values of the centred vectors, divided by the largest (zeros when all are the same)."""
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    return np.asarray(values / (values[0] if values[0] > 0 else 1.0))


def pair_cosines(vectors: Vectors, limit: int = 2000) -> Vectors:
    """Cosines of all pairs among the first `limit` vectors."""
    unit = lengths_one(vectors[:limit])
    return np.asarray(np.clip((unit @ unit.T)[np.triu_indices(len(unit), k=1)], -1, 1))
