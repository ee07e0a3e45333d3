"""The three trackers, each a few calls of its package. None of them talks to a network."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ssft_bench.tracking.logged import Place, Tracker

PROJECT = "ssft-bench"
"""Name of the project (wandb) or experiment (mlflow)."""


class TensorBoard:
    """Scalars in an event file. A resumed run hides what came after the step that it starts from."""

    def __init__(self, place: Place) -> None:
        """In a folder that many runs share, each has its own below."""
        from torch.utils.tensorboard import SummaryWriter

        title = re.sub(r"[^\w.=+-]+", "_", place.title).strip("._")  # it may hold a plug-in's path
        own = place.folder if place.own_folder else place.folder / title / place.signature
        self._writer = SummaryWriter(str(own), purge_step=place.step + 1 if place.step else None)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One scalar for each number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the file."""
        self._writer.close()


class WeightsAndBiases:
    """An offline run, for `wandb sync`. A resumed run is a second one of the same group."""

    def __init__(self, place: Place) -> None:
        """wandb makes a folder `wandb` in the folder it is given."""
        import wandb

        folder = place.folder.parent if place.own_folder else place.folder
        self._run: Any = wandb.init(
            mode="offline",
            dir=str(folder),
            project=PROJECT,
            name=place.title,
            group=place.signature,
            config=dict(place.config),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One row of its history; rows of one step are merged."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Finish the run: what is held is written."""
        self._run.finish()


class MLflow:
    """A run in a local file store, below experiment `ssft-bench`. A resumed run goes on in it."""

    def __init__(self, place: Place) -> None:
        """Parameters are the specification's, with dots."""
        # Files may be written by many processes at once, a SQLite file may not; mlflow >= 3.7 asks for this.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client: Any = MlflowClient(tracking_uri=place.folder.absolute().as_uri())
        experiment = self._experiment()
        self._run: str = self._resumed(experiment, place) or self._started(experiment, place)
        params = [Param(key, str(value)[:500]) for key, value in flat(place.config)]
        for first in range(0, len(params), 100):  # mlflow takes no more at once
            self._client.log_batch(self._run, params=params[first : first + 100])

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(PROJECT)
        if found is None:
            try:
                return str(self._client.create_experiment(PROJECT))
            except Exception:  # another process was faster
                found = self._client.get_experiment_by_name(PROJECT)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _resumed(self, experiment: str, place: Place) -> str | None:
        if not place.step:
            return None
        asked = f"tags.signature = '{place.signature}' and tags.title = '{place.title}'"
        runs = self._client.search_runs(
            [experiment], asked, max_results=1, order_by=["attributes.start_time DESC"]
        )
        if not runs:
            return None
        self._client.set_terminated(runs[0].info.run_id, "RUNNING")
        return str(runs[0].info.run_id)

    def _started(self, experiment: str, place: Place) -> str:
        tags = {"signature": place.signature, "title": place.title}
        run = self._client.create_run(experiment, tags=tags, run_name=place.title)
        return str(run.info.run_id)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One batch of metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings, their keys joined by dots."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


BACKENDS: dict[str, Callable[[Place], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
