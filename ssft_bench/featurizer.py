"""Our interfaces inside s3prl's own code, in the place of each of its two featurizers.

`InterfaceFeaturizer` stands where `s3prl.nn.Featurizer` does. `RunnerFeaturizer` stands where
`s3prl.upstream.interfaces.Featurizer` does; `ssft_bench.s3prl_runner` puts it into s3prl's downstream
runner.

The state_dict of either has the interface's own keys behind `interface.`; those of `weighted_sum` are
s3prl's (`weights`), so `featurizer.interface.load_state_dict` takes what s3prl saved. An interface
that must be fitted has one key more, `fitted`; a RunnerFeaturizer has `_extra_state`, the interface's
text, so that s3prl evaluates no checkpoint with another interface than it was trained with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface, build_interface
from ssft_bench.names import split_options
from ssft_bench.upstream import LENGTH_TOLERANCE, SAMPLE_RATE

Build = Callable[..., Interface]


class _Featurizer(nn.Module):
    """What the two have in common: an interface, built for a spec and fed with lists of states."""

    fitted: Tensor

    def __init__(self, spec: UpstreamSpec, interface: str | Build, normalize: bool) -> None:
        super().__init__()
        build, options = resolve_interface(interface)
        if normalize:
            options = {"normalize": True, **options}
        label = interface if isinstance(interface, str) else getattr(build, "__name__", str(build))
        self.label = label
        self.interface = build_interface(build, spec, options, f"--interface {label}")
        if self.interface.needs_fit:
            self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def _check_count(self, got: int, wanted: int) -> None:
        """Layer drop would give the interface other layers than it was built for."""
        if got != wanted:
            raise UsageError(
                f"interface {self.label}: {self.interface.spec.name} gave {got} hidden states, but "
                f"{wanted} when the featurizer was built; switch layer drop off, or build the "
                "featurizer again for this upstream"
            )

    def _hidden(self, states: Sequence[Tensor], lengths: Mapping[int, Tensor]) -> HiddenStates:
        """A batch; `lengths` are the frames [B] of the layers of each stride."""
        own = {stride: frames.to(states[0].device) for stride, frames in lengths.items()}
        return HiddenStates(states, [own[stride] for stride in self.interface.spec.strides])

    def _features(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        """The interface's features [B, T, D] and lengths [B]."""
        if self.interface.needs_fit and not self.fitted:
            raise UsageError(
                f"interface {self.label} learns without gradients: let it see training speech first, "
                "with fit() of the featurizer, use_in_s3prl(..., fit=waveforms) or --fit FOLDER"
            )
        features, lengths = self.interface(hidden)
        return features, lengths

    @torch.no_grad()
    def _fit(self, batches: Iterable[HiddenStates]) -> int:
        if not self.interface.needs_fit:
            raise UsageError(f"interface {self.label} learns by gradients alone; it has no fit")
        frames = self.interface.fit(self._utterances(batches))
        self.fitted.fill_(True)
        return frames

    def _utterances(self, batches: Iterable[HiddenStates]) -> Iterator[list[Tensor]]:
        """The used layers' states [T_l, D_l] of one utterance after another."""
        for hidden in batches:
            used = hidden.select(self.interface.layers_used())
            for row in range(len(used.lengths)):
                pairs = zip(used.states, used.layer_lengths, strict=True)
                yield [state[row, : int(own[row])] for state, own in pairs]


class InterfaceFeaturizer(_Featurizer):
    """Any interface where `s3prl.nn.Featurizer` stands, e.g. in `s3prl.nn.UpstreamDownstreamModel`.

    Layers may differ in width and stride, which s3prl's own refuses. With an interface that pools
    time (mhfa) the features are [B, 1, E] of length 1: right for utterance-level heads.
    """

    def __init__(
        self,
        upstream: Any,
        interface: str | Build = "weighted_sum",
        layer_selections: Sequence[int] | None = None,
        normalize: bool = False,
    ) -> None:
        """`upstream` is an `s3prl.nn.S3PRLUpstream`, looked at but not kept; `interface` is written as
        on the command line (`hconv:kernel=3,stride=2`, `file.py:Class`) or a class.

        The interface sees only the layers of `layer_selections`, in rising order, and numbers them
        anew; `normalize` is its option of that name. Raises UsageError for what does not fit.
        """
        wanted = ("num_layers", "hidden_sizes", "downsample_rates")
        if not all(hasattr(upstream, name) for name in wanted):
            raise UsageError(
                f"InterfaceFeaturizer: {type(upstream).__name__} is no s3prl.nn.S3PRLUpstream (it has "
                f"no {', '.join(n for n in wanted if not hasattr(upstream, n))})"
            )
        layers = _selected(layer_selections, upstream.num_layers)
        spec = UpstreamSpec(
            _name_of(getattr(upstream, "upstream", upstream)),
            tuple(int(upstream.hidden_sizes[layer]) for layer in layers),
            tuple(int(upstream.downsample_rates[layer]) for layer in layers),
        )
        super().__init__(spec, interface, normalize)
        self._layers, self._given = layers, int(upstream.num_layers)

    @property
    def output_size(self) -> int:
        """Width of the features."""
        return self.interface.output_dim

    @property
    def downsample_rate(self) -> int:
        """Samples at 16 kHz from frame to frame; without meaning for an interface that pools time."""
        return self.interface.output_stride

    def forward(
        self, all_hs: Sequence[Tensor], all_lens: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features [B, T, output_size], zero where padded, and lengths [B] as `all_lens` has them.

        Takes what S3PRLUpstream gives: states [B, T_l, D_l] and lengths [B] of all layers. Raises
        UsageError for another number of layers, and where a `fit` is missing.
        """
        features, lengths = self._features(self._chosen(all_hs, all_lens))
        return features, lengths.to(all_lens[0].device)

    def fit(self, batches: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]]) -> int:
        """Let an interface that needs it see training speech: outputs of the upstream, batch by batch.

        Returns the number of frames. Raises UsageError for an interface that has no fit.
        """
        return self._fit(self._chosen(*batch) for batch in batches)

    def _chosen(self, all_hs: Sequence[Tensor], all_lens: Sequence[Tensor]) -> HiddenStates:
        self._check_count(len(all_hs), self._given)
        # S3PRLUpstream makes equal lengths anew for each layer; one tensor per stride is checked once.
        lengths: dict[int, Tensor] = {}
        for layer, stride in zip(self._layers, self.interface.spec.strides, strict=True):
            lengths.setdefault(stride, all_lens[layer])
        return self._hidden([all_hs[layer] for layer in self._layers], lengths)


class RunnerFeaturizer(_Featurizer):
    """Any interface where `s3prl.upstream.interfaces.Featurizer` stands: in s3prl's downstream runner.

    `output_dim` is the width of the features, `downsample_rate` the samples at 16 kHz per frame
    (without meaning for an interface that pools time, whose features are [1, E] each).
    """

    def __init__(
        self,
        upstream: Any,
        feature_selection: str = "hidden_states",
        upstream_device: str = "cpu",
        layer_selection: int | None = None,
        normalize: bool = False,
        *,
        interface: str | Build = "weighted_sum",
        fit: Iterable[Tensor] | None = None,
    ) -> None:
        """`upstream` is an s3prl UpstreamBase, run once on a second of noise, as s3prl's does.

        `feature_selection` names any list of layers; `fit` gives training speech [samples] at 16 kHz
        to an interface that needs it. Raises UsageError for a selection of one layer, where there is
        nothing left for an interface to do.
        """
        name = _name_of(upstream)
        if layer_selection is not None:
            raise UsageError(
                f"layer_selection {layer_selection} (-l) leaves one layer and no work for an interface; "
                f"leave it out and take --interface layer:index={layer_selection}"
            )
        upstream.eval()
        noise = [torch.randn(SAMPLE_RATE).to(upstream_device)]  # s3prl's draw: seeds mean the same
        with torch.no_grad():
            states = _list_of_layers(upstream(noise), feature_selection, name)
        super().__init__(_spec_of(upstream, name, feature_selection, states), interface, normalize)
        self.name, self.feature_selection = "Featurizer", feature_selection
        self.output_dim: int = self.interface.output_dim
        self.downsample_rate: int = self.interface.output_stride
        if fit is not None:
            self.to(upstream_device)
            speech = ([wave.to(upstream_device)] for wave in fit)
            self.fit((waves, upstream(waves)) for waves in speech)
        _tell(
            f"[Featurizer] - interface {self.label} over {len(states)} {feature_selection} of {name}: "
            f"{self.output_dim} features every {self.downsample_rate} samples"
        )

    def forward(
        self, paired_wavs: Sequence[Tensor], paired_features: Mapping[str, Any]
    ) -> list[Tensor]:
        """Features [T_i, output_dim] of each utterance, T_i = round(samples / stride) as s3prl cuts.

        Takes waveforms [samples] and what the upstream gave for them. Raises UsageError for another
        number of layers, for frames that are five or more off, and where a `fit` is missing.
        """
        features, lengths = self._features(self._paired(paired_wavs, paired_features))
        return [row[:frames] for row, frames in zip(features, lengths.tolist(), strict=True)]

    def fit(self, batches: Iterable[tuple[Sequence[Tensor], Mapping[str, Any]]]) -> int:
        """Let an interface that needs it see training speech: waveforms and what the upstream gave.

        Returns the number of frames. Raises UsageError for an interface that has no fit.
        """
        return self._fit(self._paired(*batch) for batch in batches)

    def get_extra_state(self) -> str:
        """The interface as it was written, for the checkpoint."""
        return self.label

    def set_extra_state(self, state: str) -> None:
        """Raise UsageError for a checkpoint of another interface, or of other options."""
        if state != self.label:
            raise UsageError(
                f"the checkpoint was trained with interface {state}, this is {self.label}; "
                f"give --interface {state}"
            )

    def _paired(self, waves: Sequence[Tensor], features: Mapping[str, Any]) -> HiddenStates:
        spec = self.interface.spec
        states = _list_of_layers(features, self.feature_selection, spec.name)
        self._check_count(len(states), spec.num_layers)
        lengths: dict[int, Tensor] = {}
        for stride in dict.fromkeys(spec.strides):
            alike = zip(states, spec.strides, strict=True)
            frames = min(state.shape[1] for state, own in alike if own == stride)
            wanted = [round(len(wave) / stride) for wave in waves]
            if abs(frames - max(wanted)) >= LENGTH_TOLERANCE:
                raise UsageError(
                    f"upstream {spec.name}: {frames} frames for {max(wanted)} expected from its stride "
                    f"of {stride} samples; mend get_downsample_rates"
                )
            lengths[stride] = torch.tensor([min(n, frames) for n in wanted])
        return self._hidden(states, lengths)


def resolve_interface(interface: str | Build) -> tuple[Build, dict[str, Any]]:
    """What builds the interface, and its options."""
    if not isinstance(interface, str):
        return interface, {}
    name, options = split_options(interface, "--interface")
    build: Build = registry.load("interfaces", name)
    return build, options


def _selected(layers: Sequence[int] | None, count: int) -> list[int]:
    """Layers in rising order, as s3prl takes them."""
    if layers is None:
        return list(range(count))
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong or not layers or len(set(layers)) < len(layers):
        raise UsageError(
            f"layer_selections {list(layers)}: must be different numbers from 0 to {count - 1}"
        )
    return sorted(layers)


def _spec_of(upstream: Any, name: str, selection: str, states: Sequence[Tensor]) -> UpstreamSpec:
    """Widths from the states of a second of speech [1, T, D], strides as declared, else measured."""
    if hasattr(upstream, "get_downsample_rates"):
        rates = upstream.get_downsample_rates(selection)
    else:
        rates = [round(SAMPLE_RATE / state.shape[1]) for state in states]
    strides = tuple(rates) if isinstance(rates, list | tuple) else (int(rates),) * len(states)
    return UpstreamSpec(name, tuple(int(state.shape[-1]) for state in states), strides)


def _list_of_layers(features: Mapping[str, Any], selection: str, name: str) -> list[Tensor]:
    """The layers [B, T_l, D_l] under one of an upstream's keys: a list, tuple or a dict's values."""
    chosen = features.get(selection)
    if isinstance(chosen, Mapping):
        chosen = list(chosen.values())
    if isinstance(chosen, list | tuple) and chosen:
        return list(chosen)
    what = "is one layer" if isinstance(chosen, Tensor) else "is not among the outputs"
    lists = [key for key, value in features.items() if isinstance(value, list | tuple | Mapping)]
    raise UsageError(
        f"feature_selection {selection} (-s) {what} of upstream {name}; an interface works on a list "
        f"of layers: {', '.join(key for key in lists if key[0] != '_')}"
    )


def _name_of(expert: Any) -> str:
    """`hubert` for `s3prl.upstream.hubert.expert.UpstreamExpert`; s3prl itself keeps no name."""
    *_, folder, module = ["", *type(expert).__module__.split(".")]
    return folder if module == "expert" and folder else type(expert).__name__


def _tell(message: str) -> None:
    """s3prl's way: on standard error, from the first process only."""
    from s3prl.utility.helper import show

    show(message, file=sys.stderr)
