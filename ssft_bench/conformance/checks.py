"""The checks of an interface, in the order of the report, and how they are run."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch

from ssft_bench import registry
from ssft_bench.conformance import declared, gradients, layers, padding, precision
from ssft_bench.conformance import memory as memory_module
from ssft_bench.conformance.report import Finding, Report, Result, Status, failed
from ssft_bench.conformance.subject import Subject
from ssft_bench.errors import UsageError
from ssft_bench.interface import Interface
from ssft_bench.names import split_options
from ssft_bench.progress import Progress


@dataclass(frozen=True)
class Check:
    """One property of the contract."""

    name: str
    run: Callable[[Subject], Finding]
    advice: str
    """What to do when it fails and the finding has no better advice."""


CHECKS = (
    Check("parameters", declared.parameters,
          "Correct the formula of expected_parameters(spec, **options), or return None."),
    Check("output size", declared.output_size,
          "Set self.output_dim, and self.output_stride, in __init__ to what forward gives."),
    Check("padding", padding.padding,
          "Look at real frames only: mask by the lengths what mixes frames or utterances (softmax, mean, "
          "norm, convolution over time)."),
    Check("time-major memory", padding.time_major,
          "Use reshape, transpose or flatten instead of view and as_strided; allocate with empty_like "
          "only what has the same strides."),
    Check("sliced memory", padding.sliced,
          "Use reshape, transpose or flatten instead of view and as_strided."),
    Check("half precision", precision.half_precision,
          "Sum in fp32 and return the states' type: write combine(), which gets fp32, or use "
          "ssft_bench.mixing."),
    Check("gradients reach", gradients.reach,
          "Keep operations differentiable (no detach, no .data, no tolist on what learns), or correct "
          "layers_used()."),
    Check("gradients are slopes", gradients.slopes,
          "Correct the backward pass; make new tensors in the states' type (torch.zeros is fp32)."),
    Check("determinism", precision.determinism,
          "Draw random numbers from torch's default generator alone, and keep nothing between calls."),
    Check("inputs unchanged", precision.inputs_unchanged,
          "Others read the same states: use z = z + x on what was given, not z += x or z.add_(x)."),
    Check("save and load", precision.save_and_load,
          "Register what the features depend on as a parameter that learns or with register_buffer "
          "(persistent): a run saves these alone. Fixed numbers are buffers, not frozen parameters."),
    Check("few frames", padding.few_frames,
          "Let it work without frames and with one: no statistics over the batch, no maximum of nothing."),
    Check("few layers", layers.few_layers,
          "Let it work for two layers and be built for one (which then passes through), or raise "
          "ValueError saying how many it needs."),
    Check("wrong input", layers.wrong_input,
          "Leave forward() to the base class, which checks layers and widths, or raise ValueError."),
    Check("unused layers", layers.unused_layers,
          "Take the states by hidden.select(self.layers_used()), as combine() gets them."),
    Check("uneven layers", layers.uneven_layers,
          "Call self.align_layers() in __init__ to have them aligned, or self.require_equal_layers() to "
          "refuse them with a way out."),
    Check("layer usage", declared.layer_usage,
          "Give one share for each hidden state, 0 for unused ones, divided by their sum; None when "
          "there is no meaning."),
    Check("fit", declared.fit,
          "Go through the iterable once, start from nothing, and return the number of frames."),
    Check("memory", memory_module.memory,
          "Set framewise = True (then combine() is computed again in blocks), use the kernels of "
          "ssft_bench.mixing, and stack nothing."),
    Check("torch.compile", precision.compiles,
          "Leave forward() to the base class, which is not traced, or keep Python state out of yours."),
)  # fmt: skip
"""Every property, in the order of the report."""


def check_interface(text: str) -> Report:
    """All checks of `NAME[:option=value,...]` or `path.py:Class[:option=value,...]`.

    An interface that pools time is checked a second time with its `frame_options`. An exception in the
    interface is that check's failure. Raises UsageError when there is no such interface or the options
    do not fit it.
    """
    name, options = split_options(text, "check interface")
    if name.endswith(".py"):
        raise UsageError(f"interface '{name}': name the class in it, {name}:Class")
    build = registry.load("interfaces", name)
    if not (inspect.isclass(build) and issubclass(build, Interface)):
        raise UsageError(f"interface '{name}' is no subclass of ssft_bench.interface.Interface")
    return Report(name, options, results_of(build, options, text))


def results_of(
    build: type[Interface],
    options: Mapping[str, Any],
    label: str,
    chosen: Sequence[Check] = CHECKS,
) -> tuple[Result, ...]:
    """The chosen checks of a class; `label` is what errors and the progress bar call it."""
    with _apart():
        subjects = {"": Subject.of(build, options, label)}
        framed = _frame_options(subjects[""])
        if framed:
            told = ", ".join(f"{key}={value}" for key, value in framed.items())
            with_frames = {**options, **framed}
            subjects[f" ({told})"] = Subject.of(build, with_frames, f"{label} with {told}")
        total = len(chosen) * len(subjects)
        results = []
        with Progress(f"check interface {label}", total, unit="check") as bar:
            for suffix, subject in subjects.items():
                for check in chosen:
                    results.append(examine(check, subject, suffix))
                    bar.advance()
    return tuple(results)


def _frame_options(subject: Subject) -> dict[str, Any]:
    """Options that give a vector per frame, where the interface pools time and has them."""
    try:
        interface = subject.unfilled(subject.small.spec())
    except (Exception, SystemExit):
        return {}
    own = dict(interface.frame_options) if interface.pools_time else {}
    return {key: value for key, value in own.items() if key not in subject.options}


def examine(check: Check, subject: Subject, suffix: str = "") -> Result:
    """Run one check; whatever the interface raises becomes its failure."""
    try:
        finding = check.run(subject)
    except (Exception, SystemExit) as error:
        finding = failed(told(error, subject.build))
    advice = finding.advice or check.advice if finding.status is Status.failed else ""
    return Result(check.name + suffix, finding.status, finding.detail, advice, finding.numbers)


def told(error: BaseException, build: type[Interface]) -> str:
    """An exception in one line: situation, type, message, and the line of the interface's own file."""
    module = sys.modules.get(build.__module__)
    source = getattr(module, "__file__", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == source]
    where = f" (line {lines[-1]} of {source})" if lines else ""
    situation = "".join(f"{note}: " for note in getattr(error, "__notes__", []))
    message = (str(error).strip() or "no message").splitlines()[0]
    return f"{situation}{type(error).__name__}: {message}{where}"


@contextmanager
def _apart() -> Iterator[None]:
    """Keep standard output for the report, and the caller's random numbers and threads as they were.

    One thread: the tensors are small, and several wait for each other on a machine that is busy.
    """
    threads = torch.get_num_threads()
    with redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
