"""Runs that train nothing: features are searched as they are, and dev picks the layer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ssft_bench import cost, interface_from, registry, results
from ssft_bench.cell import Cell, Machine, Parts, Turn
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.features import FrozenFeatures
from ssft_bench.frame_store import FOLDER, FrameStore
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface, build_interface
from ssft_bench.metric import Prediction
from ssft_bench.progress import Progress
from ssft_bench.task import TrainingFreeTask
from ssft_bench.upstream import SAMPLE_RATE


class TrainingFreeCell(Cell):
    """Encode once for all candidates, take the one that is best on dev, score it on test.

    A candidate is an interface. There is one, or, where `layer` was named without an index, one for each
    hidden state. A run that was killed begins anew.
    """

    LEFT_BEHIND = ("predictions.jsonl", FOLDER)
    task: TrainingFreeTask

    def __init__(self, parts: Parts, machine: Machine) -> None:
        """Raises UsageError for several devices: there is no work to share out."""
        if machine.devices > 1:
            raise UsageError(f"--devices {machine.devices}: protocol training-free uses one device")
        super().__init__(parts, machine)
        assert isinstance(parts.task, TrainingFreeTask)
        self.candidates = [
            interface.eval().requires_grad_(False).to(self.fabric.device)
            for interface in self._candidates(parts.interface)
        ]
        self.layers = sorted({n for one in self.candidates for n in one.layers_used()})
        # Runs of one process that share hidden states keep those as well: each half of the memory.
        memory = self.spec.data.memory_gib / (1 if machine.states is None else 2)
        self.states = FrozenFeatures(
            self.upstream, self.layers, self.fabric.device,
            0.0 if machine.states is None else memory, machine.kept(self.record, self.layers),
            dtype=self.spec.data.states,
            view=machine.view(self.record, self.upstream, self.layers, self.fabric.device),
        )  # fmt: skip
        if self.spec.interface_from is not None:
            self.states.standardizer = interface_from.standardizer(Path(self.spec.interface_from))
        self.store = FrameStore(self.folder, memory)

    def _candidates(self, interface: Interface) -> list[Interface]:
        if not interface.picks_layer_on_dev:
            return [interface]
        choice, upstream = self.spec.interface, self.upstream.spec
        build = registry.load("interfaces", choice.name)
        return [
            build_interface(build, upstream, {**choice.options, "index": n}, choice.label)
            for n in range(upstream.num_layers)
        ]

    def _work(self) -> Iterator[Turn]:
        try:
            self._in_one_piece()
        finally:
            self.record.events += self.states.close()
        yield 0, 0

    def _in_one_piece(self) -> None:
        record, spec = self.record, self.spec
        with closing(self.store):
            record.cost = self._static_cost(self.candidates[-1], None)
            self.store.check_room(self._sizes())
            clock = _Clock()
            self._encode("dev", range(len(self.candidates)))
            clock.lap("hidden_states")
            best, dev = self._pick()
            clock.lap("matching")
            self.store.keep_only(best)
            self._encode("test", [best])
            clock.lap("hidden_states")
            test = self.task.search(self.data.searches["test"], self._frames(best), self.folder)
            clock.lap("matching")
            rows = self.data.splits["dev"]
            chosen = self.candidates[best]
            gates = (chosen.gate_sums(self._hidden(row)) for row in rows)
            record.interface_state = self._interface_state(chosen, gates)
        record.predictions = results.save_predictions(self.folder, test)
        record.metrics = self._metrics("test", test)
        record.metrics += self._metrics("dev", dev)
        clock.lap("scoring")
        record.selection = {**spec.selection.model_dump(), **record.selection}
        record.cost |= {
            "seconds": {part: round(seconds, 1) for part, seconds in clock.seconds.items()},
            "speech_hours_encoded": round(self.states.seconds_of_audio / 3600, 4),
            **self.states.origin(),
            "peak_memory_mib": cost.peak_memory_mib(),
        }

    def _pick(self) -> tuple[int, list[Prediction]]:
        """The candidate that is best on dev, and its predictions there.

        Of equal ones the better in the task's other metrics, in their order; then the first.
        """
        chosen = self._selecting
        order = [chosen, *(m for m in self.task.metrics if m is not chosen)]
        picked: tuple[list[float], int, list[Prediction]] | None = None
        for place in range(len(self.candidates)):
            found = self.task.search(self.data.searches["dev"], self._frames(place))
            values = {metric.name: metric.value(found) for metric in self.task.metrics}
            if len(self.candidates) > 1:
                self.record.trials.append({"layer": place, **values})
            rank = [values[m.name] * (1 if m.higher_is_better else -1) for m in order]
            if picked is None or rank > picked[0]:
                picked = (rank, place, found)
        assert picked is not None
        _, place, found = picked
        self.record.selection = {"value": chosen.value(found)}
        if len(self.candidates) > 1:
            self.record.selection["layer"] = place
        return place, found

    def _rows(self, split: str) -> list[Utterance]:
        search = self.data.searches[split]
        return [*search.queries, *search.documents]

    def _encode(self, split: str, places: Sequence[int]) -> None:
        """Features of a split's recordings for these candidates; what is there already stays."""
        rows = self._rows(split)
        with Progress(f"features {split}", len(rows), unit="utt") as bar, torch.inference_mode():
            for row in rows:
                missing = [place for place in places if (place, row.id) not in self.store]
                if missing:
                    hidden = self._hidden(row)
                    for place in missing:
                        features, lengths = self.candidates[place](hidden)
                        frames = features[0, : int(lengths[0])].float().cpu().numpy()
                        self.store.add(place, row.id, frames)
                bar.advance()

    def _hidden(self, row: Utterance) -> HiddenStates:
        return HiddenStates.pad([self.states.states(row)], self.layers).to(self.fabric.device)

    def _frames(self, place: int) -> Any:
        return lambda row: self.store.frames(place, row.id)

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """About what will be kept: [T, D] of dev for all candidates, of one on test."""
        dev, test = ({row.id for row in self._rows(split)} for split in ("dev", "test"))
        largest = max(self.candidates, key=lambda one: one.output_dim / one.output_stride)
        for interface, ids in [*((one, dev) for one in self.candidates), (largest, test - dev)]:
            for name in ids:
                frames = self.data.seconds[name] * SAMPLE_RATE / interface.output_stride
                yield round(frames) + 1, interface.output_dim


class _Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        """What has passed since the last lap goes to this part."""
        now = time.monotonic()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now
