"""Quantization-aware training in PyTorch.

    import qat

    qat.prepare(model, example)  # every forward pass now rounds as the plan says; `example` is a batch
    ...                          # train on as before, a few epochs at a small learning rate
    qat.finish(model)            # the same plain model, its weights rounded: export it and convert it with the plan

A weight's gradient is that of its rounded value (straight-through: Bengio, Léonard, Courville: "Estimating or
Propagating Gradients Through Stochastic Neurons for Conditional Computation", arXiv:1308.3432). What a layer reads is
rounded over a moving average of its range. Per-tensor weights before a batch normalization are rounded as they are once
it is folded into them (Jacob et al.: "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2), so that the fold leaves them on their grid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize


class Layer(NamedTuple):
    """How a layer is rounded.

    Attributes:
        elements: How many weights it has.
        limit: Weights are whole multiples of their step, at most so many.
        span: The step is the largest weight over this.
        per_channel: One step an output channel, or one for all weights.
        activations: Bits of what it reads, 8 or 16; None: not rounded.
    """

    elements: int
    limit: int
    span: float
    per_channel: bool
    activations: int | None


LAYERS: dict[str, Layer] = {}

MOMENTUM = 0.05
"""The share of a new batch in the moving average of a range."""

SMALLEST = 2.0**-60
"""No step is smaller."""

INPUT = "rounded_input"


def prepare(model: nn.Module, example: Any = None) -> nn.Module:
    """Round the weights and inputs of the plan's layers in every forward pass, in place.

    Args:
        model: As it was exported, or trained since. Optimizers keep their parameters.
        example: A batch, or a tuple of the model's arguments; needed for per-tensor weights where there are batch
            normalizations.

    Returns:
        The model.

    Raises:
        ValueError: The model lacks layers of the plan, is prepared already, or an example is needed.
    """
    layers = _layers(model)
    norms = _norms(model, layers, example)
    for name, (module, parameter) in layers.items():
        layer = LAYERS[name]
        kept = _channels(module) if layer.per_channel else None
        rounding = RoundedWeight(layer, kept, norms.get(name), _channels(module))
        parametrize.register_parametrization(module, parameter, rounding, unsafe=True)
        if layer.activations is not None and not hasattr(module, INPUT):
            device = next(module.parameters()).device
            module.add_module(INPUT, RoundedInput(layer.activations).to(device))
            module.register_forward_pre_hook(_round_input)
    return model


def finish(model: nn.Module) -> nn.Module:
    """Leave the rounded weights and take everything else away, in place.

    Returns:
        The model.

    Raises:
        ValueError: The model is not prepared.
    """
    for name in LAYERS:
        path, _, parameter = name.rpartition(".")
        module = _module(model, path)
        if module is None or not parametrize.is_parametrized(module, parameter):
            raise ValueError(f"{name} is not prepared")
        parametrize.remove_parametrizations(module, parameter, leave_parametrized=True)
        if hasattr(module, INPUT):
            delattr(module, INPUT)
            for key, hook in list(module._forward_pre_hooks.items()):
                if hook is _round_input:
                    del module._forward_pre_hooks[key]
    return model


class RoundedWeight(nn.Module):
    """Weights on the grid of the plan."""

    def __init__(self, layer: Layer, kept: int | None, norm: nn.Module | None, channels: int | None) -> None:
        super().__init__()
        self.layer, self.kept, self.channels = layer, kept, channels
        self.norm = (norm,)  # in a tuple, it stays a module of the model alone

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Round all of a layer's weights."""
        factor = self.factor(weight)
        folded = weight if factor is None else weight * factor
        largest = folded.detach().abs()
        if self.kept is None:
            largest = largest.amax()
        else:
            largest = largest.amax([axis for axis in range(weight.dim()) if axis != self.kept], keepdim=True)
        step = (largest / self.layer.span).clamp_min(SMALLEST)
        rounded = _Straight.apply(folded, step, self.layer.limit)
        return rounded if factor is None else rounded / factor

    def factor(self, weight: torch.Tensor) -> torch.Tensor | None:
        """What folding the batch normalization multiplies each channel by."""
        (norm,) = self.norm
        if norm is None:
            return None
        factor = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            factor = factor * norm.weight.detach()
        factor = torch.where(factor.abs() < SMALLEST, torch.ones_like(factor), factor)
        return factor.reshape([-1 if axis == self.channels else 1 for axis in range(weight.dim())])


class RoundedInput(nn.Module):
    """Activations in integers, over a range that follows the batches of training."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Round what a layer reads; as it is, before a batch of training was seen."""
        if self.training:
            new = torch.stack(values.detach().float().aminmax())
            self.range.copy_(torch.where(self.seen, torch.lerp(self.range, new, MOMENTUM), new))
            self.seen.fill_(True)
        elif not self.seen:
            return values
        low, high = self.range[0].clamp_max(0), self.range[1].clamp_min(0)
        if self.bits == 16:
            step = (torch.maximum(-low, high) / 32767).clamp_min(SMALLEST)
            zero = torch.zeros((), dtype=torch.int32, device=values.device)
            return torch.fake_quantize_per_tensor_affine(values, step, zero, -32768, 32767)
        step = ((high - low) / 255).clamp_min(SMALLEST)
        zero = (-128 - low / step).round().clamp(-128, 127).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, step, zero, -128, 127)


class _Straight(torch.autograd.Function):
    """Rounds forward, and lets the gradient through as it is."""

    @staticmethod
    def forward(_context: Any, weight: torch.Tensor, step: torch.Tensor, limit: int) -> torch.Tensor:
        return (weight / step).round().clamp(-limit, limit) * step

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient, None, None


def _round_input(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(module, INPUT)(given[0]), *given[1:])


def _layers(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """By the plan's name, the module and the name of its weights."""
    found, unknown = {}, []
    for name, layer in LAYERS.items():
        path, _, parameter = name.rpartition(".")
        module = _module(model, path)
        if module is not None and parametrize.is_parametrized(module, parameter):
            raise ValueError(f"{name} is prepared already")
        weight = None if module is None else getattr(module, parameter, None)
        if module is None or not isinstance(weight, nn.Parameter):
            unknown.append(name)
        elif weight.numel() != layer.elements:
            unknown.append(f"{name} of {layer.elements:,} weights (it has {weight.numel():,})")
        else:
            found[name] = (module, parameter)
    if unknown:
        raise ValueError(f"the model has no {', '.join(unknown)}; edit the names in LAYERS if only they differ")
    return found


def _module(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _channels(module: nn.Module) -> int | None:
    """The axis of the output channels; None where one scale has to serve all of a grouped transposed convolution."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return 1 if module.groups == 1 else None
    return 0


def _norms(model: nn.Module, layers: dict[str, tuple[nn.Module, str]], example: Any) -> dict[str, nn.Module]:
    """The batch normalization that reads what a per-tensor layer gives, found by running the model once."""
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    candidates = [each for each in model.modules() if isinstance(each, kinds) and each.running_var is not None]
    wanted = {name: module for name, (module, _) in layers.items() if not LAYERS[name].per_channel}
    if not candidates or not wanted:
        return {}
    if example is None:
        raise ValueError("prepare(model, example): a batch shows which layers are followed by a batch normalization")
    given: dict[int, tuple[str, Any]] = {}  # what is kept cannot lend its id to another
    found: dict[str, nn.Module] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            given[id(output)] = (name, output)

        return hook

    def match(module: nn.Module, inputs: Any) -> None:
        if id(inputs[0]) in given:
            found[given[id(inputs[0])][0]] = module

    handles = [module.register_forward_hook(note(name)) for name, module in wanted.items()]
    handles += [norm.register_forward_pre_hook(match) for norm in candidates]
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        with torch.no_grad():
            model(*example) if isinstance(example, tuple) else model(example)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return {name: norm for name, norm in found.items() if _channels(wanted[name]) is not None}
