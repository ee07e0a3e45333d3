"""The s3prl upstream around a small model: waveforms in, one hidden state per layer out.

Hidden states by s3prl's convention (s3prl/upstream/hubert/expert.py): the inputs of transformer layers
0..n-1 and the encoder's output, so n + 1 tensors of (batch, frames, dim), 50 frames a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ssft_bench.upstreams.pretraining.batches import STRIDE, WINDOW
from ssft_bench.upstreams.pretraining.models import convolved
from ssft_bench.upstreams.pretraining.weights import load_weights


class SmallUpstream(UpstreamBase):  # type: ignore[misc]
    """Expert of `hubert_mini`, `wav2vec2_mini` and `wavlm_mini`; each names its own weights file."""

    def __init__(
        self,
        ckpt: str | Path,
        *,
        random: bool = False,
        seed: int = 0,
        hooks: Any = None,
        hook_postprocess: Any = None,
    ) -> None:
        """`ckpt` is a safetensors file of `pretraining.weights`; `random` keeps only its architecture.

        Raises ssft_bench.errors.MissingError when the file is absent or not the expected one.
        """
        super().__init__(hooks, hook_postprocess)
        loaded = load_weights(Path(ckpt), random=random, seed=seed)
        model: Any = loaded.model
        model.feature_grad_mult, model.encoder.layerdrop = 0.0, 0.0
        self.model: Any = model
        self.about = loaded.about
        self.normalize = bool(loaded.about["task"].get("normalize", False))
        if not self.hooks:
            self._add_default_hooks()

    def _add_default_hooks(self) -> None:
        """One hook at the input of each layer, one at the output of the encoder."""
        for index in range(len(self.model.encoder.layers)):
            self.add_hook(
                f"self.model.encoder.layers[{index}]",
                lambda input, output: input[0].transpose(0, 1),
            )
        self.add_hook("self.model.encoder", lambda input, output: output[0])

    def get_downsample_rates(self, key: str) -> int:
        """Samples from frame to frame, the same for every hidden state."""
        return STRIDE

    def forward(self, wavs: list[Tensor]) -> None:
        """Run the model on waveforms (samples,) of any lengths; the hooks collect the states.

        Padding reaches no valid frame: the convolutional stack, whose group norm looks at a whole
        waveform, runs utterance by utterance, and padded frames are zeroed before the positional
        convolution and hidden from attention.
        """
        model = self.model
        features = [self._convolved(wav) for wav in wavs]
        frames = torch.tensor([len(f) for f in features], device=wavs[0].device)
        padded = pad_sequence(features, batch_first=True)
        if model.post_extract_proj is not None:
            padded = model.post_extract_proj(padded)
        padding = torch.arange(padded.shape[1], device=frames.device) >= frames[:, None]
        model.encoder(padded, padding_mask=padding if padding.any() else None)

    def _convolved(self, wav: Tensor) -> Tensor:
        """Normalised convolutional features of one waveform: (frames, channels), one frame at least."""
        if self.normalize:
            wav = F.layer_norm(wav, wav.shape)
        wav = F.pad(wav, (0, max(0, WINDOW - len(wav))))
        return convolved(self.model, wav[None])[0][0]
