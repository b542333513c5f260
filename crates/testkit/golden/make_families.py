#!/usr/bin/env python3
"""Makes the golden files of the models around the Vision Transformer beside this script, small: ResNet,
Swin and the compact transformers.

Run as `make.py` is, which says how the numbers are made (float32 in, float64 inside, rounded once):

    target/golden/bin/python crates/testkit/golden/make_families.py            # writes the files
    target/golden/bin/python crates/testkit/golden/make_families.py --check    # only compares them, byte for byte

No parameter and no buffer keeps its initial value. Each file has logits, loss and gradients of a model in training,
with all dropout 0; where there is batch norm, also its statistics after three steps of SGD on the same batch, and what
the model then answers in evaluation.
"""

import dataclasses
from typing import Callable

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from make import Random, main, rounded, safetensors_file, with_prefix

STEPS, RATE = 3, 0.05


@dataclasses.dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    ours: dict  # our configuration
    image_size: tuple[int, int]
    channels: int = 3
    classes: int = 5
    batch: int = 4
    zero: tuple[str, ...] = ()  # endings of parameters whose gradient is zero but for rounding

    def config(self) -> dict:
        common = {
            "image_size": self.image_size, "channels": self.channels, "mean": [0.0], "std": [1.0],
            "classes": self.classes,
        }
        return common | self.ours


def draw(name: str, value: Tensor, random: Random) -> Tensor:
    """A parameter or buffer, none at its trivial value."""
    shape = value.shape
    if name.endswith("running_var"):
        return random.uniform(*shape, low=0.5, high=2.0)
    if name.endswith(("relative_position_bias_table", "positional_emb")):
        return random.normal(*shape, std=0.5)
    if len(shape) > 1:
        fan_in = value[0].numel()
        return random.normal(*shape, std=(2 / fan_in) ** 0.5)
    is_scale = name.endswith("weight")
    return random.normal(*shape, mean=float(is_scale), std=0.3)


def case_file(name: str, case: Case, seed: int) -> bytes:
    random = Random(seed)
    state = case.make().state_dict()
    given = {key: draw(key, value, random) for key, value in state.items() if value.is_floating_point()}
    images = random.uniform(case.batch, case.channels, *case.image_size)
    labels = random.labels(case.batch, case.classes)

    def compute(dtype):
        model = case.make().to(dtype).train()
        model.load_state_dict({key: given.get(key, value) for key, value in state.items()})
        names, values = zip(*model.named_parameters())
        x = images.to(dtype)
        results = {}
        for step in range(STEPS):
            logits = model(x)
            loss = F.cross_entropy(logits, labels)
            grads = torch.autograd.grad(loss, values)
            if step == 0:
                results = {"logits": logits.detach(), "loss": loss.detach()}
                results |= with_prefix("grad", dict(zip(names, grads)))
            with torch.no_grad():
                for value, grad in zip(values, grads):
                    value -= RATE * grad
        buffers = {key: value for key, value in model.named_buffers() if value.is_floating_point()}
        if buffers:
            results |= with_prefix("after", {key: value.clone() for key, value in buffers.items()})
            results["evaluated"] = model.eval()(x).detach()
        return results

    zero = tuple(f"grad.{key}" for key in given if key.endswith(case.zero)) if case.zero else ()
    results = rounded(compute, name, zero)
    parameters = [key for key, _ in case.make().named_parameters()]
    tensors = with_prefix("param", given) | {"input": images, "labels": labels} | results
    config = {"model": case.config(), "parameters": parameters, "steps": STEPS, "rate": RATE}
    return safetensors_file(config, tensors)


# --- ResNet --------------------------------------------------------------------------------------------------------


class SmallResNet(ResNet):
    """torchvision's with fewer stages and channels."""

    def __init__(self, block, layers: list[int], width: int, channels: int, classes: int):
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = width, 1, 1, 64
        self.conv1 = nn.Conv2d(channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stages = [
            self._make_layer(block, width << i, count, stride=1 if i == 0 else 2) for i, count in enumerate(layers)
        ]
        for i, stage in enumerate(stages):
            self.add_module(f"layer{i + 1}", stage)
        self.stages = len(stages)
        self.fc = nn.Linear(self.inplanes, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))


def textbook_resnet() -> nn.Module:
    """As the textbook has it: biases in the convolutions, and no norm on the shortcuts."""
    model = SmallResNet(BasicBlock, [1, 2], 4, 1, 5)
    for module in model.modules():
        if isinstance(module, BasicBlock) and module.downsample is not None:
            del module.downsample[1]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return model


def resnet(block: str, layers: list[int], width: int, **more) -> dict:
    common = {"family": "resnet", "block": block, "layers": layers, "width": width, "recompute": False}
    rest = {"zero_init_last": True, "batch_norm_eps": 1e-5, "batch_norm_momentum": 0.1, "init": "kaiming"}
    return common | rest | {"conv_bias": False, "downsample_norm": True} | more


# --- Swin ----------------------------------------------------------------------------------------------------------


def swin(image_size: tuple[int, int], window: tuple[int, int], depths: list[int], heads: list[int]) -> Case:
    def make() -> nn.Module:
        return SwinTransformer(
            img_size=image_size, patch_size=2, in_chans=3, num_classes=5, embed_dim=8, depths=depths, num_heads=heads,
            window_size=window, mlp_ratio=2.0, drop_path_rate=0.0,
        )

    ours = {
        "family": "swin", "patch_size": 2, "window_size": list(window), "width": 8, "depths": depths, "heads": heads,
        "mlp_ratio": 2.0, "qkv_bias": True, "dropout": 0.0, "attention_dropout": 0.0, "layer_norm_eps": 1e-5,
        "recompute": False,
    }
    return Case(make, ours, image_size, batch=3)


# --- Compact transformers ------------------------------------------------------------------------------------------


class CompactBlock(nn.Module):
    """The encoder layer of the authors' `utils/transformers.py`: the norm after the attention stays in the sum."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.pre_norm, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = nn.Module()
        self.self_attn.qkv = nn.Linear(width, 3 * width, bias=False)
        self.self_attn.proj = nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.self_attn.qkv(self.pre_norm(x)).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = self.norm1(x + self.self_attn.proj(mixed.transpose(1, 2).reshape(batch, tokens, width)))
        return x + self.linear2(F.gelu(self.linear1(x)))


class Compact(nn.Module):
    """The authors' `cct.py` and `cvt.py`, without what training alone needs."""

    def __init__(self, convolutions: list[nn.Module], tokens: int, width: int, depth: int, heads: int, hidden: int,
                 positions: bool, classes: int):
        super().__init__()
        self.tokenizer, self.classifier = nn.Module(), nn.Module()
        self.tokenizer.conv_layers = nn.Sequential(*convolutions)
        if positions:
            self.classifier.positional_emb = nn.Parameter(torch.zeros(1, tokens, width))
        self.classifier.attention_pool = nn.Linear(width, 1)
        self.classifier.blocks = nn.ModuleList(CompactBlock(width, heads, hidden) for _ in range(depth))
        self.classifier.norm = nn.LayerNorm(width)
        self.classifier.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        classifier = self.classifier
        x = self.tokenizer.conv_layers(x).flatten(2).mT
        if hasattr(classifier, "positional_emb"):
            x = x + classifier.positional_emb
        for block in classifier.blocks:
            x = block(x)
        x = classifier.norm(x)
        return classifier.fc((classifier.attention_pool(x).softmax(dim=1).mT @ x).squeeze(1))


def convolutional(channels: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Module:
    convolution = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(3, 2, 1))


def compact(**ours) -> dict:
    rest = {"mlp_ratio": 2.0, "dropout": 0.0, "attention_dropout": 0.0, "layer_norm_eps": 1e-5, "recompute": False}
    return {"family": "cct", "width": 8, "depth": 2, "heads": 2} | rest | ours


CASES = {
    "cct": Case(
        lambda: Compact(
            [convolutional(3, 6, 5, 1, 2), convolutional(6, 8, 5, 1, 2)], 12, 8, 2, 2, 16, True, 5
        ),
        compact(kernel_size=5, padding=2, conv_layers=2, conv_width=6),
        image_size=(10, 14),
        # The same added to all scores changes no weight.
        zero=("attention_pool.bias",),
    ),
    "cvt": Case(
        lambda: Compact([nn.Sequential(nn.Conv2d(3, 8, 4, 4))], 6, 8, 2, 2, 16, False, 5),
        compact(tokenizer="patch", kernel_size=4, pos_embed="none"),
        image_size=(8, 12),
        # The same added to all scores changes no weight.
        zero=("attention_pool.bias",),
    ),
    # Two by four windows, then one down and two across.
    "swin": swin((12, 24), (3, 3), [2, 2], [2, 4]),
    # One window down and two across, then one alone, which is smaller than others.
    "swin_oblong": swin((8, 16), (4, 4), [2, 1], [1, 2]),
    "resnet_basic": Case(
        lambda: SmallResNet(BasicBlock, [2, 1], 4, 3, 5),
        resnet("basic", [2, 1], 4),
        image_size=(26, 21),
    ),
    "resnet_bottleneck": Case(
        lambda: SmallResNet(Bottleneck, [1, 1], 3, 3, 5),
        resnet("bottleneck", [1, 1], 3),
        image_size=(20, 24),
    ),
    "resnet_textbook": Case(
        textbook_resnet,
        resnet("basic", [1, 2], 4, conv_bias=True, downsample_norm=False, init="xavier"),
        image_size=(24, 24),
        channels=1,
        # What is added to all of a channel is taken away again by its norm.
        zero=("conv1.bias", "conv2.bias"),
    ),
}

FILES = {
    f"{name}.safetensors": lambda name=name, case=case, seed=seed: case_file(name, case, seed)
    for seed, (name, case) in enumerate(CASES.items(), start=200)
}

if __name__ == "__main__":
    raise SystemExit(main(FILES))
