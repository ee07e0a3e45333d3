"""Heads side by side: what each would be alone, for one head's forward passes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from ssft_bench import fan_out, results
from ssft_bench.cell import Machine
from ssft_bench.errors import CheckFailed, UsageError
from ssft_bench.feature_store import FeatureStore
from ssft_bench.features import FrozenFeatures, SharedStates
from ssft_bench.random_state import RandomState
from ssft_bench.results import ResultRecord
from ssft_bench.runner import Claim, Sources, claim, ready
from ssft_bench.spec import RunSpec
from ssft_bench.trained_cell import FrozenCell
from tests.feature_store.conftest import Cells, Store
from tests.feature_store.recordings import ended, in_child

pytestmark = pytest.mark.usefixtures("one_thread")

NO_MEMORY = "data.memory_gib=0"
DROPOUT = ("asr", NO_MEMORY, "task.options.hidden_dim=16", "task.options.project_dim=16",
           "task.options.dropout=0.5")  # fmt: skip


def together(
    cells: Cells, specs: Sequence[RunSpec], out: Path, store: FeatureStore | None = None,
    shared: SharedStates | None = None,
) -> list[ResultRecord | Exception]:  # fmt: skip
    """What `fan_out.run` gives for these cells in a folder."""
    sources = Sources()
    with ExitStack() as held:
        made: list[FrozenCell] = []
        fresh: list[bool] = []
        for spec in specs:
            claimed = held.enter_context(
                claim(ready(spec, sources), out, machine=Machine("cpu", store=store))
            )
            assert isinstance(claimed, Claim)
            assert isinstance(claimed.cell, FrozenCell)
            made.append(claimed.cell)
            fresh.append(claimed.fresh)
        found = fan_out.run(made, fresh, shared)
        for outcome, cell in zip(found, made, strict=True):
            if isinstance(outcome, ResultRecord):
                cells.known(outcome, cell.folder)
        return found


def scores(cells: Cells, outcomes: Sequence[ResultRecord | Exception]) -> list[dict[str, Any]]:
    assert all(isinstance(outcome, ResultRecord) for outcome in outcomes), outcomes
    return [cells.scores(outcome) for outcome in outcomes if isinstance(outcome, ResultRecord)]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Utterances that went through the upstream, in order."""
    seen: list[str] = []
    plain = FrozenFeatures._compute

    def counting(self: FrozenFeatures, utterance: Any, layers: Sequence[int]) -> Any:
        seen.append(utterance.id)
        return plain(self, utterance, layers)

    monkeypatch.setattr(FrozenFeatures, "_compute", counting)
    return seen


def test_each_is_what_it_is_alone_for_the_passes_of_one(
    cells: Cells, tmp_path: Path, passes: list[str]
) -> None:
    specs = [cells.spec(one, *DROPOUT) for one in ("weighted_sum", "hconv", "gated", "last")]
    alone, counts = [], []
    for spec in specs:
        passes.clear()
        alone.append(cells.run(spec))
        counts.append(len(passes))
    assert max(counts) > 100
    passes.clear()
    got = together(cells, specs, tmp_path / "fan")
    assert scores(cells, got) == scores(cells, alone)
    # The one with gates looks at dev once more; the others ask for nothing that it does not.
    assert len(passes) == max(counts)
    hours = [r.cost["speech_hours_encoded"] for r in got if isinstance(r, ResultRecord)]
    assert sum(hours) == pytest.approx(max(a.cost["speech_hours_encoded"] for a in alone), abs=2e-4)
    assert len({s["parameters"] for s in scores(cells, got)}) == 4


def test_other_seeds_and_rates_are_what_they_are_alone(
    cells: Cells, tmp_path: Path, passes: list[str]
) -> None:
    """Their batches differ, so they share less; a grid of rates trains one after the other."""
    specs = [
        cells.spec("last", *DROPOUT),
        cells.spec("last", *DROPOUT, seed=2),
        cells.spec("last", "asr", *DROPOUT[1:], "train.accumulate=2", "train.eval_every=3"),
        cells.spec("weighted_sum", "pr", NO_MEMORY, lr_grid=(0.02, 0.05)),
    ]
    alone = [cells.run(spec) for spec in specs]
    without = len(passes)
    passes.clear()
    got = together(cells, specs, tmp_path / "fan")
    assert scores(cells, got) == scores(cells, alone)
    assert len(passes) < 0.9 * without
    assert [r.trials for r in got] == [  # type: ignore[union-attr]
        [{**t, "seconds": g["seconds"]} for t, g in zip(a.trials, r.trials, strict=True)]  # type: ignore[union-attr]
        for a, r in zip(alone, got, strict=True)
    ]


def test_without_the_generators_of_each_the_numbers_would_differ(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: an interface that draws before training is disturbed by its neighbours."""
    plugin = cells.plugins / "drawing.py"
    plugin.write_text(DRAWING)
    specs = [cells.spec(f"{plugin}:Drawing:number={n}", "pr", NO_MEMORY) for n in (1, 2)]
    alone = scores(cells, [cells.run(spec) for spec in specs])
    assert scores(cells, together(cells, specs, tmp_path / "fan")) == alone
    monkeypatch.setattr(RandomState, "restore", lambda self: None)
    disturbed = scores(cells, together(cells, specs, tmp_path / "disturbed"))
    assert [d["parameters"] for d in disturbed] != [a["parameters"] for a in alone]


DRAWING = '''
"""Fits by drawing from the global generator of torch."""
import torch
from ssft_bench.interface import Interface


class Drawing(Interface):
    """Mixes layers by a random share that it draws when it is fitted."""

    needs_fit = True

    def __init__(self, spec, number=1):
        super().__init__(spec)
        self.register_buffer("share", torch.zeros(()))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def fit(self, states):
        frames = sum(len(item[-1]) for item in states)
        self.share.copy_(torch.rand(()))
        return frames

    def combine(self, states):
        return self.scale * (self.share * states[0] + (1 - self.share) * states[-1])
'''


def test_one_that_diverges_leaves_the_others_alone(cells: Cells, tmp_path: Path) -> None:
    bad = cells.spec("last", "pr", NO_MEMORY, "train.optimizer.lr=1e38", "train.max_bad_steps=2",
                     "train.optimizer.name=sgd", "train.clip=null")  # fmt: skip
    good = [cells.spec(one, "pr", NO_MEMORY) for one in ("weighted_sum", "hconv")]
    alone = [cells.run(spec) for spec in good]
    first, failed, last = together(cells, [good[0], bad, good[1]], tmp_path / "fan")
    assert isinstance(failed, CheckFailed)
    assert scores(cells, [first, last]) == scores(cells, alone)
    states = sorted(record.status for _, record in results.find_all(tmp_path / "fan"))
    assert states == ["done", "done", "failed"]


@pytest.mark.parametrize("updates", [(3, 9, 30), (7, 7, 21)])
def test_killed_and_gone_on(cells: Cells, tmp_path: Path, updates: tuple[int, int, int]) -> None:
    """kill -9 at several moments, from where each cell has a checkpoint of its own, or none."""
    specs = [cells.spec("weighted_sum", *DROPOUT),
             cells.spec("hconv", *DROPOUT, "train.save_every=3"),
             cells.spec("last", *DROPOUT, "train.save_every=50")]  # fmt: skip
    alone = scores(cells, [cells.run(spec) for spec in specs])
    out = tmp_path / "fan"
    for last in updates:

        def work(updates: int = last) -> None:
            _die_after(updates)
            together(cells, specs, out)

        assert ended(in_child(work)) == -signal.SIGKILL
    resumed = {r.signature: r.status for _, r in results.find_all(out)}
    assert set(resumed.values()) == {"running"}
    got = together(cells, specs, out)
    assert scores(cells, got) == alone
    kinds = [[e["kind"] for e in r.events] for r in got if isinstance(r, ResultRecord)]
    assert any("resumed" in own for own in kinds)


def _die_after(updates: int) -> None:
    from ssft_bench.training import Trainer

    plain, count = Trainer._update, [0]

    def dying(self: Trainer, stream: Any) -> Any:
        count[0] += 1
        if count[0] > updates:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, stream)

    Trainer._update = dying  # type: ignore[method-assign]


def test_memory_is_used_where_there_is_some(
    cells: Cells, tmp_path: Path, passes: list[str]
) -> None:
    specs = [cells.spec(one, "pr", "data.memory_gib=1") for one in ("weighted_sum", "last")]
    alone = scores(cells, [cells.run(spec) for spec in specs])
    passes.clear()
    assert scores(cells, together(cells, specs, tmp_path / "fan")) == alone
    assert len(passes) == len(set(passes))  # each utterance once
    shared = SharedStates((0, 1), 0.0)
    held: list[int] = []
    plain = shared.move_on

    def watched() -> None:
        held.append(len(shared._passing))
        plain()

    shared.move_on = watched  # type: ignore[method-assign]
    none = [cells.spec(one, "pr", NO_MEMORY) for one in ("weighted_sum", "last")]
    assert scores(cells, together(cells, none, tmp_path / "none", shared=shared)) == [
        {**own, "signature": s["signature"]} for own, s in zip(alone, alone, strict=True)
    ]
    assert 8 <= max(held) <= 16  # a batch, or a batch of dev


def test_a_store_that_is_too_small_helps_as_far_as_it_goes(
    cells: Cells, tmp_path: Path, store: Store, passes: list[str]
) -> None:
    specs = [cells.spec(one, "pr", NO_MEMORY) for one in ("weighted_sum", "last")]
    alone = scores(cells, [cells.run(spec) for spec in specs])
    whole = len(passes) // 2
    passes.clear()
    got = together(cells, specs, tmp_path / "fan", store(200_000 / 2**30))
    assert scores(cells, got) == alone
    assert 0 < len(passes) < whole
    assert store().bytes > 100_000


def test_cells_without_common_states_are_refused(cells: Cells, tmp_path: Path) -> None:
    one = cells.spec()
    rounded = cells.spec("last", "pr", "data.states=bfloat16")
    louder = cells.spec(upstream=f"{cells.plugins}/spectrum.py:Spectrum:gain=2")
    for number, other in enumerate((rounded, louder)):
        with pytest.raises(UsageError, match="fan-out"):
            together(cells, [one, other], tmp_path / f"fan{number}")
    assert fan_out.run([]) == []


def test_the_generators_are_as_before(cells: Cells, tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    sources = Sources()
    spec = cells.spec("last", "pr", NO_MEMORY)
    with claim(ready(spec, sources), tmp_path / "fan", machine=Machine("cpu")) as claimed:
        assert isinstance(claimed, Claim)
        assert isinstance(claimed.cell, FrozenCell)
        torch.manual_seed(5)
        fan_out.run([claimed.cell])
    assert torch.equal(torch.rand(3), wanted)
