"""Seeded PyTorch networks of the kinds people convert, small enough to be exported in a test.

Weights are PyTorch's own initialisation under a fixed seed; normalisation statistics and affine parameters are
randomised, and no network ends in a softmax: an output that is the same for every input would agree with anything.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as PyTorch's documentation calls it

CLASSES = 10
VOCABULARY = 100
TOKENS = 12


class LibraryEncoder(nn.Module):
    """`nn.TransformerEncoder` over embedded tokens, with a padding mask made from the tokens: 0 is padding."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 2):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.randn(TOKENS, width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        for weight in self.encoder.parameters():  # its layers are copies of one
            weight.data += torch.randn_like(weight) * 0.05
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.encoder(self.embedding(tokens) + self.positions, src_key_padding_mask=tokens == 0)
        return self.head(hidden)


class _Attention(nn.Module):
    """Causal attention, written by Einsum or by PyTorch's scaled dot product, with rotary positions."""

    def __init__(self, width: int, heads: int, einsum: bool):
        super().__init__()
        self.heads, self.einsum, size = heads, einsum, width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        angles = torch.outer(torch.arange(TOKENS), 10_000.0 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cos", torch.cat([angles, angles], 1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], 1).sin())

    def _rotated(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (p.view(batch, length, self.heads, -1).transpose(1, 2) for p in self.qkv(x).chunk(3, -1))
        q, k = self._rotated(q), self._rotated(k)
        if self.einsum:
            hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])
            weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
            mixed = torch.einsum("bhij,bhjd->bhid", weights, v)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class _RootMeanSquare(nn.Module):
    """RMS normalisation as model code spells it."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class OwnEncoder(nn.Module):
    """A decoder-like stack of our own: RMS normalisation, rotary causal attention in both spellings, gated SiLU."""

    def __init__(self, width: int = 64, heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.attention = nn.ModuleList([_Attention(width, heads, einsum) for einsum in (True, False)])
        self.norms = nn.ModuleList([_RootMeanSquare(width) for _ in range(4)])
        self.gate = nn.ModuleList([nn.Linear(width, 4 * width) for _ in range(2)])
        self.down = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(2)])
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for n, (attention, gate, down) in enumerate(zip(self.attention, self.gate, self.down, strict=True)):
            x = x + attention(self.norms[2 * n](x))
            value, opened = gate(self.norms[2 * n + 1](x)).chunk(2, -1)
            x = x + down(value * F.silu(opened))
        return self.head(x)


def _double(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (before, after):
        layers += [nn.Conv2d(inputs, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Three levels, max pooling down, transposed convolutions up, skips by concatenation."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        self.down = nn.ModuleList([_double(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True)])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs])
        self.merge = nn.ModuleList([_double(2 * b, b) for _, b in pairs])
        self.head = nn.Conv2d(widths[0], 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        x = image
        for n, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if n else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


class _Block(nn.Module):
    """Pre-norm attention with one fused projection, then an MLP."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches by a strided convolution, a class token, learned positions, pre-norm blocks."""

    def __init__(self, edge: int = 32, patch: int = 8, width: int = 64, heads: int = 4, depth: int = 2):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (edge // patch) ** 2 + 1, width) * 0.1)
        self.blocks = nn.Sequential(*[_Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Tagger(nn.Module):
    """A label a token: embedding, a bidirectional LSTM, a GRU."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(2 * width, width, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(tokens))
        hidden, _ = self.gru(hidden)
        return self.head(hidden)


class Detector(nn.Module):
    """Boxes and scores of one feature map's anchors, non-maximum suppression, and what it selects, gathered.

    Gives as many rows as boxes are left: [K, 4] corners (y1, x1, y2, x2), [K] scores, [K] classes.
    """

    def __init__(self, edge: int = 64, stride: int = 8, sizes: tuple[int, ...] = (12, 24), classes: int = 3):
        super().__init__()
        self.classes = classes
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.Hardswish(inplace=True)]
        self.backbone = nn.Sequential(*layers)
        self.boxes = nn.Conv2d(32, 4 * len(sizes), 3, padding=1)
        self.scores = nn.Conv2d(32, classes * len(sizes), 3, padding=1)
        self.scores.weight.data *= 24  # so that scores spread, and an image decides how many pass the threshold
        self.scores.bias.data -= 1
        centres = torch.arange(stride / 2, edge, stride)
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        rows = [torch.stack([y, x, torch.full_like(y, size), torch.full_like(y, size)], -1) for size in sizes]
        self.register_buffer("anchors", torch.stack(rows, 2).reshape(-1, 4))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.backbone(image)
        batch = image.shape[0]
        offsets = self.boxes(features).permute(0, 2, 3, 1).reshape(batch, -1, 4)
        scores = self.scores(features).permute(0, 2, 3, 1).reshape(batch, -1, self.classes).sigmoid()
        centre = offsets[..., :2] * self.anchors[:, 2:] + self.anchors[:, :2]
        half = torch.exp(offsets[..., 2:].clamp(max=4.0)) * self.anchors[:, 2:] / 2
        boxes = torch.cat([centre - half, centre + half], -1)
        kept = torch.ops.haversack_tests.nms(boxes, scores.transpose(1, 2), 20, 0.3, 0.4)
        example, label, place = kept.unbind(1)
        return boxes[example, place], scores[example, place, label], label


@torch.library.custom_op("haversack_tests::nms", mutates_args=())
def nms(boxes: Tensor, scores: Tensor, most: int, overlap: float, threshold: float) -> Tensor:
    """ONNX's NonMaxSuppression on corners: int64 rows (example, class, box), by class in falling score."""
    found = []
    for example in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            chosen: list[int] = []
            for place in scores[example, label].argsort(descending=True, stable=True).tolist():
                if len(chosen) == most or not scores[example, label, place] > threshold:
                    break
                if all(_overlap(boxes[example, place], boxes[example, other]) <= overlap for other in chosen):
                    chosen.append(place)
            found += [(example, label, place) for place in chosen]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, most: int, overlap: float, threshold: float) -> Tensor:  # noqa: ARG001
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(), 3), dtype=torch.int64)


def _overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union."""
    size = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    shared = float(size.prod())
    return shared / (float((one[2:] - one[:2]).prod()) + float((other[2:] - other[:2]).prod()) - shared)


NETWORKS: dict[str, type[nn.Module]] = {
    "nn.TransformerEncoder": LibraryEncoder,
    "own attention": OwnEncoder,
    "U-Net": UNet,
    "ViT": ViT,
    "LSTM and GRU tagger": Tagger,
    "detector with NMS": Detector,
}
"""By the name that tables give them."""


def build(name: str) -> nn.Module:
    """The network of that name, in evaluation mode, with randomised normalisation."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
        if isinstance(layer, nn.BatchNorm2d | nn.LayerNorm | _RootMeanSquare):
            layer.weight.uniform_(0.5, 1.5)
            if getattr(layer, "bias", None) is not None:
                layer.bias.normal_(0, 0.1)
    return network


def sample(name: str, batch: int = 1, seed: int = 1) -> Tensor:
    """A seeded input of the network of that name."""
    generator = torch.Generator().manual_seed(seed)
    if name in ("nn.TransformerEncoder", "own attention", "LSTM and GRU tagger"):
        tokens = torch.randint(1, VOCABULARY, (batch, TOKENS), generator=generator)
        if name == "nn.TransformerEncoder":
            tokens[:, -3:] = 0
        return tokens
    edge = 32 if name == "ViT" else 64
    return torch.rand((batch, 3, edge, edge), generator=generator)
