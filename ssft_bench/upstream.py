"""An s3prl upstream, frozen or not, seen as a giver of HiddenStates."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench import registry
from ssft_bench.errors import BenchError, MissingError, UsageError
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec

SAMPLE_RATE = 16_000
LENGTH_TOLERANCE = 5
"""Frames that an upstream may give fewer than samples / stride (s3prl's TOLERABLE_SEQLEN_DIFF)."""


class Upstream(nn.Module):
    """Wraps an `s3prl.upstream.interfaces.UpstreamBase`: waveforms in, HiddenStates out."""

    def __init__(self, name: str, expert: nn.Module) -> None:
        """Run the expert once on a second of noise to learn its layers, widths and strides."""
        super().__init__()
        self.expert = expert
        noise = torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
        self.expert.eval()
        with torch.no_grad():
            states = _states(self.expert([noise]))
        rates = self.expert.get_downsample_rates("hidden_states")  # type: ignore[operator]
        strides = tuple(rates) if isinstance(rates, list | tuple) else (int(rates),) * len(states)
        self.spec = UpstreamSpec(name, tuple(int(s.shape[-1]) for s in states), strides)

    def forward(self, waveforms: Sequence[Tensor]) -> HiddenStates:
        """Hidden states of a batch of waveforms, each [samples] at 16 kHz.

        An utterance has round(samples / stride) frames, as SUPERB cuts them; an upstream that gives
        more than five fewer raises UsageError.
        """
        states = _states(self.expert(list(waveforms)))
        wanted = [max(1, round(len(w) / self.spec.strides[-1])) for w in waveforms]
        frames = min(s.shape[1] for s in states)
        if max(wanted) - frames > LENGTH_TOLERANCE:
            raise UsageError(
                f"upstream {self.spec.name}: {frames} frames for {max(wanted)} expected from its "
                f"declared stride of {self.spec.strides[-1]} samples; mend get_downsample_rates"
            )
        lengths = torch.tensor([min(w, frames) for w in wanted])
        longest = int(lengths.max())
        return HiddenStates([s[:, :longest] for s in states], lengths.to(states[0].device))


def _states(output: dict[str, Any]) -> list[Tensor]:
    states = output.get("hidden_states")
    if not states:
        raise UsageError("the upstream returned no 'hidden_states'; see s3prl's UpstreamBase")
    return list(states)


def load_upstream(name: str, options: dict[str, Any]) -> Upstream:
    """Build the upstream of that name (ours, a plug-in's, s3prl's or `file.py:Class`).

    Raises UsageError for an option it does not take, MissingError when its weights cannot be had.
    """
    build = registry.load("upstreams", name)
    _check_options(name, build, options)
    _check_checkpoint(name, options)
    try:
        with warnings.catch_warnings():
            # s3prl's models use torch's old weight_norm: nothing a user could act on.
            warnings.filterwarnings("ignore", category=FutureWarning)
            return Upstream(name, build(**options))
    except BenchError:
        raise
    except OSError as error:  # connection errors too
        reason = f"{type(error).__name__}: {error}".split(" (Caused by")[0]
        local = name if name.endswith("_local") else f"{name}_local"
        raise MissingError(
            f"upstream {name}: its weights cannot be had ({reason}). Without a network give a local "
            f"checkpoint: --upstream {local}:ckpt=FILE"
        ) from error
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise UsageError(f"upstream {name}: {error}") from error
    except Exception as error:
        if "ckpt" not in options:
            raise
        raise MissingError(
            f"upstream {name}: {options['ckpt']} is not a checkpoint it can load "
            f"({type(error).__name__}: {error})"
        ) from error


def _check_options(name: str, build: Any, options: dict[str, Any]) -> None:
    """Refuse a misspelt option where the builder names its parameters."""
    parameters = inspect.signature(build).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters]
    for key in options:
        if key not in known:
            raise UsageError(f"upstream {name} has no option '{key}'. Known: {', '.join(known)}")


def _check_checkpoint(name: str, options: dict[str, Any]) -> None:
    """Say at once when a local checkpoint is not there; s3prl only asserts, or downloads another."""
    place = options.get("ckpt")
    if isinstance(place, str) and "://" not in place and not Path(place).exists():
        raise MissingError(f"upstream {name}: there is no checkpoint {place} (option ckpt)")


def weights_sha256(module: nn.Module) -> str:
    """Digest of every parameter and buffer, by name, type, shape and bytes: names of files do not count."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{key}:{data.dtype}:{tuple(data.shape)}".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
