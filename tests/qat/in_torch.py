"""A user's program: build a network, and later train it with the exported module `qat.py`.

python in_torch.py build|train FOLDER dynamo|script
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.dw = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dw(self.relu(self.bn1(self.conv1(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.layer1 = nn.Sequential(Block(16), Block(16))
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.tok = nn.Linear(16, 32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.layer1(self.stem(x)))
        x = self.tok(x.flatten(2).transpose(1, 2)).relu()
        return self.fc(x.mean(1))


def export(model: nn.Module, path: Path, exporter: str) -> None:
    torch.onnx.export(
        model.eval(), (torch.zeros(1, 3, 8, 8),), str(path), dynamo=exporter == "dynamo", external_data=False,
        input_names=["x"], output_names=["y"], opset_version=18,
    )  # fmt: skip


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(48, 3, 8, 8)
    return x, (x.mean((2, 3)) @ torch.randn(3, 10)).argmax(1)


def factors(model: Net, when: str) -> dict[str, np.ndarray]:
    """What folding each batch normalization multiplies the channels by."""
    norms = {index: block.bn1 for index, block in enumerate(model.layer1)}
    return {
        f"factor {when}/layer1.{index}.conv1.weight": (norm.weight / (norm.running_var + norm.eps).sqrt())
        .detach()
        .numpy()
        for index, norm in norms.items()
    }


def build(folder: Path, exporter: str) -> None:
    model = Net()
    for block in model.layer1:
        nn.init.uniform_(block.bn1.weight, -1.5, 1.5)
        nn.init.uniform_(block.bn1.running_mean, -0.2, 0.2)
        nn.init.uniform_(block.bn1.running_var, 0.3, 2.0)
    torch.save(model.state_dict(), folder / "model.pt")
    export(model, folder / "model.onnx", exporter)


def train(folder: Path, exporter: str) -> None:
    import qat

    model = Net()
    model.load_state_dict(torch.load(folder / "model.pt"))
    x, labels = problem()
    said: dict[str, np.ndarray] = {}
    for name, parameter in model.named_parameters():
        said[f"before/{name}"] = parameter.detach().numpy().copy()
    said |= factors(model, "before")
    names = {name for name, _ in model.named_modules()}

    assert qat.prepare(model, x[:4]) is model
    assert model.training
    for name in qat.LAYERS:
        path, _, parameter = name.rpartition(".")
        said[f"rounded/{name}"] = getattr(model.get_submodule(path), parameter).detach().numpy()
    rounding = model.fc.rounded_input
    model.eval()
    said["unseen"] = np.array((rounding(x[0, 0]) == x[0, 0]).all())
    model.train()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    start = {name: each.detach().clone() for name, each in model.named_parameters()}
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    said["losses"] = np.array(losses)
    said["unmoved"] = np.array([name for name, each in model.named_parameters() if torch.equal(each, start[name])])
    model.eval()
    values = torch.linspace(-3, 3, 1001)
    said["range"], said["values"] = rounding.range.numpy(), values.numpy()
    said["activations"] = rounding(values).detach().numpy()

    assert qat.finish(model) is model
    assert {name for name, _ in model.named_modules()} == names
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, parameter in model.named_parameters():
        said[f"after/{name}"] = parameter.detach().numpy()
    said |= factors(model, "after")
    export(model, folder / "trained.onnx", exporter)
    np.savez(folder / "said.npz", **said)

    for wrong, call in (("prepared", lambda: qat.finish(model)), ("no stem.weight", lambda: qat.prepare(model.fc))):
        with pytest.raises(ValueError, match=wrong):
            call()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    {"build": build, "train": train}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
