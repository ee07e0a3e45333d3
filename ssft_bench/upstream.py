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
from ssft_bench.names import split_options

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

        An utterance has round(samples / stride) frames, as SUPERB cuts them, in the layers of each
        stride; an upstream that gives more than five fewer raises UsageError.
        """
        states = _states(self.expert(list(waveforms)))
        lengths = {stride: self._lengths(waveforms, states, stride) for stride in self.spec.strides}
        each = [lengths[stride] for stride in self.spec.strides]
        cut = [s[:, : int(own.max())] for s, own in zip(states, each, strict=True)]
        return HiddenStates(cut, each)

    def _lengths(
        self, waveforms: Sequence[Tensor], states: Sequence[Tensor], stride: int
    ) -> Tensor:
        """Frames [B] of the layers with this stride."""
        wanted = [max(1, round(len(w) / stride)) for w in waveforms]
        alike = zip(states, self.spec.strides, strict=True)
        frames = min(s.shape[1] for s, own in alike if own == stride)
        if max(wanted) - frames > LENGTH_TOLERANCE:
            raise UsageError(
                f"upstream {self.spec.name}: {frames} frames for {max(wanted)} expected from its "
                f"declared stride of {stride} samples; mend get_downsample_rates"
            )
        return torch.tensor([min(w, frames) for w in wanted]).to(states[0].device)


class JointUpstream(Upstream):
    """Several upstreams side by side (`a+b`): the layers of all, in their order."""

    def __init__(self, name: str, upstreams: Sequence[Upstream]) -> None:
        """`upstreams` keep their own strides and widths; interfaces align them."""
        nn.Module.__init__(self)
        self.upstreams = nn.ModuleList(upstreams)
        specs = [upstream.spec for upstream in upstreams]
        self.spec = UpstreamSpec(
            name,
            tuple(dim for spec in specs for dim in spec.dims),
            tuple(stride for spec in specs for stride in spec.strides),
            tuple(spec.num_layers for spec in specs),
        )

    def forward(self, waveforms: Sequence[Tensor]) -> HiddenStates:
        """Hidden states of all upstreams for the same waveforms; each layer has its own lengths."""
        found: list[HiddenStates] = [upstream(waveforms) for upstream in self.upstreams]
        states = [state for hidden in found for state in hidden.states]
        return HiddenStates(states, [own for hidden in found for own in hidden.layer_lengths])


def _states(output: dict[str, Any]) -> list[Tensor]:
    states = output.get("hidden_states")
    if not states:
        raise UsageError("the upstream returned no 'hidden_states'; see s3prl's UpstreamBase")
    return list(states)


def load_upstream(name: str, options: dict[str, Any]) -> Upstream:
    """Build the upstream of that name (ours, a plug-in's, s3prl's or `file.py:Class`), or several
    named `a+b`, each with its options after a colon.

    Raises UsageError for an option it does not take, MissingError when its weights cannot be had.
    """
    joint = registry.split_joint(name)
    if len(joint) > 1:
        parts = [split_options(part, "--upstream") for part in joint]
        return JointUpstream(name, [load_upstream(*part) for part in parts])
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
