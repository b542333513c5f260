#!/usr/bin/env python3
"""Makes the golden files beside this script: what PyTorch computes, for the Rust tests to compare with.

Made with Python 3.11, torch 2.15.0, timm 1.0.31, numpy 2.4.6, safetensors 0.8.0. To make the files again:

    python3 -m venv target/golden
    target/golden/bin/pip install torch==2.15.0 timm==1.0.31 numpy==2.4.6 safetensors==0.8.0
    target/golden/bin/python crates/testkit/golden/make.py            # writes the files
    target/golden/bin/python crates/testkit/golden/make.py --check    # only compares them, byte for byte

How the numbers are made:
- Inputs and parameters are float32 numbers from a seeded generator. PyTorch computes in float64 from them, and the
  results are rounded once, to float32. So the files carry no rounding noise of their own: a float32 implementation is
  compared with the true value, and a float64 one agrees to about 6e-8.
- PyTorch's own float32 results must agree with them within the float32 tolerance (RTOL, ATOL), and every gradient must
  be far larger than ATOL, and so must the effect of a wrong GELU or eps on a transformer's logits: a test at that
  tolerance can pass, and it can fail.
- The vision transformers are written here in plain PyTorch. timm's model with the same weights must give the same
  logits and gradients. Attention, warm-up and erf are checked against a second implementation too.

Each safetensors file has one metadata entry, `config`: a JSON object that describes the cases. One entry, because the
library writes several in a random order.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import sys
from pathlib import Path

import safetensors
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

VERSIONS = {"torch": "2.15.0", "timm": "1.0.31", "safetensors": "0.8.0"}
RTOL, ATOL = 1.3e-6, 1e-5
GELU = {"erf": "none", "tanh": "tanh"}  # our name -> the value of PyTorch's `approximate`


# --- Shared pieces -------------------------------------------------------------------------------------------------


class Random:
    """Float32 tensors from one seeded generator."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        return mean + std * torch.randn(shape, generator=self.generator)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def labels(self, count: int, classes: int) -> Tensor:
        return torch.randint(classes, (count,), generator=self.generator)

    def linear(self, out_features: int, *in_shape: int) -> Tensor:
        """A weight by PyTorch's default rule: U(-1/sqrt(in), 1/sqrt(in))."""
        bound = 1 / math.sqrt(math.prod(in_shape))
        return self.uniform(out_features, *in_shape, low=-bound, high=bound)


def rounded(compute, name: str, zero: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """`compute(dtype)` in float64, rounded to float32, after PyTorch's own float32 was seen to agree. Those in `zero`
    are zero but for rounding, and are stored as zero."""
    exact, single = compute(torch.float64), compute(torch.float32)
    for key, value in exact.items():
        if key in zero:
            assert value.abs().max() < 1e-10, f"{name}, {key}: should be zero"
            assert single[key].abs().max() < 1e-4, f"{name}, {key}, float32: should be nearly zero"
            exact[key] = torch.zeros_like(value)
            continue
        torch.testing.assert_close(
            single[key].double(), value, rtol=RTOL, atol=ATOL, msg=lambda text: f"{name}, {key}, float32: {text}"
        )
        if "grad" in key.split("."):
            assert value.abs().max() > 100 * ATOL, f"{name}, {key}: a gradient too small to test"
    return {key: value.float() for key, value in exact.items()}


def op_case(
    forward, input: Tensor, parameters: dict[str, Tensor], upstream: Tensor, name: str, zero: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """One operation, forward and backward: `forward(input, parameters)` with `upstream` as gradient of the output."""

    def compute(dtype):
        x = input.to(dtype).requires_grad_()
        p = {key: value.to(dtype).requires_grad_() for key, value in parameters.items()}
        output = forward(x, p)
        grads = torch.autograd.grad(output, [x, *p.values()], upstream.to(dtype))
        return {"output": output.detach(), **{f"grad.{key}": g for key, g in zip(["input", *p], grads)}}

    given = {"input": input, "upstream": upstream} | with_prefix("param", parameters)
    return given | rounded(compute, name, zero)


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


def op_file(cases: dict[str, tuple[dict, dict[str, Tensor]]]) -> bytes:
    """A file of cases, each a description and its tensors."""
    tensors = {f"{name}.{key}": value for name, (_, case) in cases.items() for key, value in case.items()}
    return safetensors_file({"cases": {name: description for name, (description, _) in cases.items()}}, tensors)


def safetensors_file(config: dict, tensors: dict[str, Tensor]) -> bytes:
    config = {"versions": VERSIONS, **config}
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    return safetensors.torch.save(tensors, metadata={"config": json.dumps(config, sort_keys=True)})


# --- The vision transformer ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class VitConfig:
    image_size: tuple[int, int]  # height, width
    patch_size: tuple[int, int]
    channels: int
    classes: int
    width: int
    heads: int
    mlp_width: int
    depth: int
    batch: int
    qkv_bias: bool
    proj_bias: bool
    gelu: str  # "erf" or "tanh"
    layer_norm_eps: float
    pool: str  # "token": norm, then the class token; "mean": no class token, mean of the patches, then fc_norm
    sgd_learning_rate: float = 0.1
    sgd_steps: int = 10

    @property
    def patches(self) -> int:
        return math.prod(size // patch for size, patch in zip(self.image_size, self.patch_size))


def attend(x: Tensor, p: dict[str, Tensor], heads: int, valid_lens: Tensor | None = None) -> Tensor:
    """Multi-head attention on [B, N, D]. `valid_lens` [B]: keys past it get the score -1e6 before the softmax."""
    batch, length, width = x.shape
    qkv = F.linear(x, p["qkv.weight"], p.get("qkv.bias"))
    q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) / math.sqrt(width // heads)
    if valid_lens is not None:
        masked = torch.arange(length) >= valid_lens[:, None]
        scores = scores.masked_fill(masked[:, None, None, :], -1e6)
    merged = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
    return F.linear(merged, p["proj.weight"], p.get("proj.bias"))


class PatchEmbed(nn.Module):
    def __init__(self, c: VitConfig):
        super().__init__()
        self.proj = nn.Conv2d(c.channels, c.width, kernel_size=c.patch_size, stride=c.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, c: VitConfig):
        super().__init__()
        self.heads = c.heads
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=c.qkv_bias)
        self.proj = nn.Linear(c.width, c.width, bias=c.proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        return attend(x, dict(self.named_parameters()), self.heads)


class Mlp(nn.Module):
    def __init__(self, c: VitConfig):
        super().__init__()
        self.fc1 = nn.Linear(c.width, c.mlp_width)
        self.act = nn.GELU(approximate=GELU[c.gelu])
        self.fc2 = nn.Linear(c.mlp_width, c.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, c: VitConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
        self.attn = Attention(c)
        self.norm2 = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
        self.mlp = Mlp(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, c: VitConfig):
        super().__init__()
        norm = nn.LayerNorm(c.width, eps=c.layer_norm_eps)
        self.token = c.pool == "token"
        if self.token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, c.patches + int(self.token), c.width))
        self.patch_embed = PatchEmbed(c)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        if self.token:
            self.norm = norm
        else:
            self.fc_norm = norm
        self.head = nn.Linear(c.width, c.classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        if self.token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, 0] if self.token else self.fc_norm(x.mean(dim=1))
        return self.head(x)


def vit_parameters(c: VitConfig, random: Random) -> dict[str, Tensor]:
    """Parameters with nothing at its trivial value: a zero bias or a norm weight of 1 would hide a mistake. Tokens and
    positions are small, so that the norm's eps is felt; the attention's weights large, so that it is not uniform."""
    values = {}
    for name, parameter in Vit(c).named_parameters():
        kind = name.removesuffix(".weight").removesuffix(".bias")
        if name in ("cls_token", "pos_embed"):
            values[name] = random.normal(*parameter.shape, std=0.2)
        elif "norm" in kind:
            values[name] = random.normal(*parameter.shape, mean=float(name.endswith(".weight")), std=0.2)
        elif name.endswith(".weight"):
            values[name] = random.linear(*parameter.shape)
        else:
            values[name] = random.uniform(*parameter.shape, low=-0.2, high=0.2)
        values[name] *= 2 if kind.endswith("qkv") else 0.2 if kind.startswith("patch_embed") else 1
    return values


def timm_vit(c: VitConfig, parameters: dict[str, Tensor]) -> nn.Module:
    """timm's model with these weights. Its attention projection always has a bias here: zero where we have none."""
    token = c.pool == "token"
    model = VisionTransformer(
        img_size=c.image_size, patch_size=c.patch_size, in_chans=c.channels, num_classes=c.classes,
        embed_dim=c.width, depth=c.depth, num_heads=c.heads, mlp_ratio=c.mlp_width / c.width, qkv_bias=c.qkv_bias,
        class_token=token, global_pool="token" if token else "avg",
        norm_layer=functools.partial(nn.LayerNorm, eps=c.layer_norm_eps),
        act_layer=functools.partial(nn.GELU, approximate=GELU[c.gelu]),
    )
    zeros = {f"blocks.{i}.attn.proj.bias": torch.zeros(c.width) for i in range(c.depth)}
    model.load_state_dict((zeros if not c.proj_bias else {}) | parameters, strict=True)
    return model.double().train()


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    names, parameters = zip(*model.named_parameters())
    return logits.detach(), loss.detach(), dict(zip(names, torch.autograd.grad(loss, parameters)))


def vit_file(c: VitConfig, seed: int) -> bytes:
    random = Random(seed)
    parameters = vit_parameters(c, random)
    images = random.uniform(c.batch, c.channels, *c.image_size)
    labels = random.labels(c.batch, c.classes)

    def compute(dtype):
        model = Vit(c)
        model.load_state_dict(parameters, strict=True)
        model = model.to(dtype)
        logits, loss, grads = gradients(model, images.to(dtype), labels)
        optimizer = torch.optim.SGD(model.parameters(), lr=c.sgd_learning_rate)
        losses = []
        for _ in range(c.sgd_steps):
            optimizer.zero_grad()
            step_loss = F.cross_entropy(model(images.to(dtype)), labels)
            step_loss.backward()
            optimizer.step()
            losses.append(step_loss.detach())
        return {"logits": logits, "loss": loss, **with_prefix("grad", grads), "sgd.losses": torch.stack(losses)}

    results = rounded(compute, f"vit with {c.pool} pooling")
    for wrong in ({"gelu": "tanh" if c.gelu == "erf" else "erf"}, {"layer_norm_eps": 1.1e-5 - c.layer_norm_eps}):
        model = Vit(dataclasses.replace(c, **wrong))
        model.load_state_dict(parameters, strict=True)
        assert (model(images) - results["logits"]).abs().max() > 5 * ATOL, f"{wrong} would pass unseen"

    logits, loss, grads = gradients(timm_vit(c, parameters), images.double(), labels)
    for name in parameters:
        torch.testing.assert_close(results[f"grad.{name}"], grads[name].float(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(results["logits"], logits.float(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(results["loss"], loss.float(), rtol=1e-6, atol=1e-9)

    config = dataclasses.asdict(c) | {"parameters": list(parameters)}
    tensors = with_prefix("param", parameters) | {"input": images, "labels": labels} | results
    return safetensors_file(config, tensors)


def vit() -> bytes:
    """The textbook form: class token, no bias in the attention's projections, exact GELU, eps 1e-5."""
    config = VitConfig(
        image_size=(16, 16), patch_size=(4, 4), channels=1, classes=5, width=24, heads=3, mlp_width=48,
        depth=2, batch=3, qkv_bias=False, proj_bias=False, gelu="erf", layer_norm_eps=1e-5, pool="token",
    )
    return vit_file(config, seed=1)


def vit_bias_mean() -> bytes:
    """Rectangular images and patches, biases, GELU in the tanh form, eps 1e-6, mean of the patches."""
    config = VitConfig(
        image_size=(12, 20), patch_size=(4, 5), channels=3, classes=7, width=20, heads=4, mlp_width=50,
        depth=2, batch=3, qkv_bias=True, proj_bias=True, gelu="tanh", layer_norm_eps=1e-6, pool="mean",
    )
    return vit_file(config, seed=2)


# --- Single operations ---------------------------------------------------------------------------------------------


def mlp() -> bytes:
    random, width, hidden = Random(3), 11, 19
    input, upstream = random.normal(2, 5, width, std=2.0), random.normal(2, 5, width)
    parameters = {
        "fc1.weight": random.linear(hidden, width),
        "fc1.bias": random.uniform(hidden, low=-0.3, high=0.3),
        "fc2.weight": random.linear(width, hidden),
        "fc2.bias": random.uniform(width, low=-0.3, high=0.3),
    }
    cases = {}
    for gelu, approximate in GELU.items():

        def forward(x, p):
            hidden = F.gelu(F.linear(x, p["fc1.weight"], p["fc1.bias"]), approximate=approximate)
            return F.linear(hidden, p["fc2.weight"], p["fc2.bias"])

        cases[gelu] = ({"gelu": gelu}, op_case(forward, input, parameters, upstream, f"mlp {gelu}"))
    return op_file(cases)


def attention() -> bytes:
    random, batch, length, width, heads = Random(4), 4, 7, 15, 3
    valid_lens = torch.tensor([1, 4, length, 6])
    full = torch.full((batch,), length)
    input, upstream = random.normal(batch, length, width), random.normal(batch, length, width)
    weights = {"qkv.weight": 2 * random.linear(3 * width, width), "proj.weight": random.linear(width, width)}
    biases = {"qkv.bias": random.normal(3 * width, std=0.3), "proj.bias": random.normal(width, std=0.3)}

    def fused(x, p, lens):
        """The same through PyTorch's own scaled dot-product attention."""
        q, k, v = F.linear(x, p["qkv.weight"], p.get("qkv.bias")).unflatten(-1, (3, heads, -1)).unbind(2)
        mask = (torch.arange(length) < lens[:, None])[:, None, None, :]
        merged = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), attn_mask=mask)
        return F.linear(merged.transpose(1, 2).flatten(2), p["proj.weight"], p.get("proj.bias"))

    cases = {}
    for bias in (False, True):
        parameters = weights | (biases if bias else {})
        double = {key: value.double() for key, value in parameters.items()}
        unmasked = attend(input.double(), double, heads)
        assert torch.equal(unmasked, attend(input.double(), double, heads, full)), "valid length N must equal none"
        for lens in (None, valid_lens):
            expected = fused(input.double(), double, full if lens is None else lens)
            torch.testing.assert_close(attend(input.double(), double, heads, lens), expected, rtol=1e-12, atol=1e-12)
            name = ("bias" if bias else "plain") + ("_valid" if lens is not None else "")
            forward = functools.partial(attend, heads=heads, valid_lens=lens)
            case = op_case(forward, input, parameters, upstream, f"attention {name}")
            if lens is not None:
                case["valid_lens"] = lens
            cases[name] = ({"heads": heads, "bias": bias, "valid_lens": lens is not None}, case)
    return op_file(cases)


def layer_norm() -> bytes:
    """`one`: width 1, where the output is the bias and the gradients of input and weight are zero. A gradient of the
    input made from rounded sums is off by 316 = 1/sqrt(eps) roundings there: PyTorch's own by 6e-5.
    `offset`: a mean of 20 beside a deviation of 1, where a variance taken as E[x^2] - E[x]^2 in float32 is wrong.
    `small`: a deviation of 0.01, where eps makes 5% of the result."""
    random, eps = Random(5), 1e-5
    shapes = {"odd": (3, 5, 7), "wide": (2, 1, 133), "one": (5, 1), "offset": (4, 19), "small": (3, 13)}
    cases = {}
    for name, shape in shapes.items():
        width = shape[-1]
        parameters = {"weight": random.normal(width, mean=1.0, std=0.3), "bias": random.normal(width, std=0.3)}
        mean, std = {"offset": (20.0, 1.0), "small": (0.0, 0.01)}.get(name, (0.3, 1.0))
        input = random.normal(*shape, mean=mean, std=std)
        forward = lambda x, p: F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"], eps)
        zero = ("grad.input", "grad.weight") if name == "one" else ()
        case = op_case(forward, input, parameters, random.normal(*shape), f"layer norm {name}", zero)
        cases[name] = ({"layer_norm_eps": eps}, case)
    return op_file(cases)


def patch_embed() -> bytes:
    random = Random(6)
    shapes = {  # batch, channels, height, width; patch; width of the embedding
        "square": ((2, 3, 8, 12), (4, 4), 10),
        "rectangular": ((2, 1, 6, 20), (3, 5), 7),
        "one_patch": ((1, 2, 3, 2), (3, 2), 5),
    }
    cases = {}
    for name, (shape, patch, width) in shapes.items():
        parameters = {"weight": random.linear(width, shape[1], *patch), "bias": random.normal(width, std=0.3)}
        patches = (shape[2] // patch[0]) * (shape[3] // patch[1])
        forward = lambda x, p: F.conv2d(x, p["weight"], p["bias"], stride=patch).flatten(2).transpose(1, 2)
        upstream = random.normal(shape[0], patches, width)
        case = op_case(forward, random.normal(*shape), parameters, upstream, f"patch embedding {name}")
        cases[name] = ({"image_size": shape[2:], "patch_size": patch}, case)
    return op_file(cases)


def cross_entropy() -> bytes:
    """`large`: logits in the hundreds, where exp without the maximum taken off is infinite in float32."""
    random, batch, classes = Random(7), 9, 5
    labels = random.labels(batch, classes)
    logits = random.normal(batch, classes, std=2.0)
    cases = {}
    settings = {"plain": (0.0, 1), "smooth": (0.1, 1), "large": (0.0, 100), "large_smooth": (0.1, 100)}
    for name, (smoothing, scale) in settings.items():

        def compute(dtype):
            x = (scale * logits).to(dtype).requires_grad_()
            loss = F.cross_entropy(x, labels, label_smoothing=smoothing)
            return {"loss": loss.detach(), "grad.logits": torch.autograd.grad(loss, x)[0]}

        case = {"logits": scale * logits, "labels": labels, **rounded(compute, f"cross-entropy {name}")}
        cases[name] = ({"label_smoothing": smoothing, "reduction": "mean"}, case)
    return op_file(cases)


# --- Optimizers, schedules, scalar functions -----------------------------------------------------------------------


def optim() -> bytes:
    random, steps = Random(8), 5
    shapes = {"weight": (5, 7), "bias": (7,), "token": (1, 1, 3)}
    initial = {key: random.normal(*shape) for key, shape in shapes.items()}
    grads = {key: random.normal(steps, *shape) for key, shape in shapes.items()}
    grads["weight"][:, 0] *= 1e-8  # as small as AdamW's eps: it matters where eps is added
    grads["weight"][:, 1] = 0.0  # only the weight decay moves these

    sgd, adamw = (functools.partial(make, foreach=False) for make in (torch.optim.SGD, torch.optim.AdamW))
    optimizers = {
        "sgd": (sgd, {"lr": 0.1}),
        "sgd_momentum": (sgd, {"lr": 0.1, "momentum": 0.9}),
        "sgd_nesterov": (sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        "sgd_decay": (sgd, {"lr": 0.1, "weight_decay": 0.01}),
        "sgd_nesterov_decay": (sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        "adamw": (adamw, {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}),
    }

    def trajectory(make, options, dtype):
        # A copy: the optimizer writes in place, and each one starts from the same values.
        parameters = {key: nn.Parameter(value.to(dtype, copy=True)) for key, value in initial.items()}
        optimizer = make(parameters.values(), **options)
        after = {key: [] for key in parameters}
        for step in range(steps):
            for key, parameter in parameters.items():
                parameter.grad = grads[key][step].to(dtype)
            optimizer.step()
            for key, parameter in parameters.items():
                after[key].append(parameter.detach().clone())
        return {key: torch.stack(values) for key, values in after.items()}

    def clip(max_norm, dtype):
        """clip_grad_norm_ on the first step's gradients: one norm over all tensors."""
        parameters = {key: nn.Parameter(value.to(dtype)) for key, value in initial.items()}
        for key, parameter in parameters.items():
            parameter.grad = grads[key][0].to(dtype, copy=True)  # it is clipped in place
        norm = nn.utils.clip_grad_norm_(parameters.values(), max_norm, foreach=False)
        return {"norm": norm.detach(), **{key: parameter.grad for key, parameter in parameters.items()}}

    tensors = with_prefix("initial", initial) | with_prefix("grads", grads)
    for name, (make, options) in optimizers.items():
        tensors |= with_prefix(name, rounded(functools.partial(trajectory, make, options), name))
    clips = {"clip": 1.0, "clip_loose": 1000.0}
    for name, max_norm in clips.items():
        tensors |= with_prefix(name, rounded(functools.partial(clip, max_norm), name))
    described = {name: options for name, (_, options) in optimizers.items()}
    config = {"steps": steps, "optimizers": described, "clip_max_norm": clips, "parameters": list(shapes)}
    return safetensors_file(config, tensors)


def schedule() -> bytes:
    steps, warmup, every, gamma = 20, 5, 5, 0.1
    cosine = lambda t, total: 0.5 * (1 + math.cos(math.pi * t / total))
    formulas = {
        "constant": ("1", lambda t: 1.0),
        "step": ("0.1^floor(t/5)", lambda t: gamma ** (t // every)),
        "cosine": ("0.5*(1+cos(pi*t/20))", lambda t: cosine(t, steps)),
        "warmup_cosine": (
            "(t+1)/5 for t<5, then 0.5*(1+cos(pi*(t-5)/(20-5)))",
            lambda t: (t + 1) / warmup if t < warmup else cosine(t - warmup, steps - warmup),
        ),
    }
    multipliers = {name: [formula(t) for t in range(steps)] for name, (_, formula) in formulas.items()}

    rates = torch.optim.lr_scheduler
    torch_schedules = {
        "constant": lambda o: rates.ConstantLR(o, factor=1.0),
        "step": lambda o: rates.StepLR(o, step_size=every, gamma=gamma),
        "cosine": lambda o: rates.CosineAnnealingLR(o, T_max=steps),
        "warmup_cosine": lambda o: rates.SequentialLR(
            o, [rates.LinearLR(o, 1 / warmup, 1.0, warmup - 1), rates.CosineAnnealingLR(o, steps - warmup)], [warmup]
        ),
    }
    for name, make in torch_schedules.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = make(optimizer)
        for t in range(steps):
            rate, expected = optimizer.param_groups[0]["lr"], multipliers[name][t]
            assert math.isclose(rate, expected, rel_tol=1e-12, abs_tol=1e-15), (name, t, rate, expected)
            optimizer.step()
            scheduler.step()

    text = {
        "versions": VERSIONS,
        "about": f"Multiplier of the learning rate at step t = 0, 1, ..., {steps - 1}.",
        "steps": steps,
        "formulas": {name: text for name, (text, _) in formulas.items()},
        "multipliers": multipliers,
    }
    return (json.dumps(text, indent=1) + "\n").encode()


def erf_gelu() -> bytes:
    """Float64. GELU is stored in its accurate form, x*erfc(-x/sqrt 2)/2 and x*sigmoid(2u): PyTorch's own form loses
    all its digits for x < -6, where the value is below 1e-8. It must agree absolutely, to 1e-14."""
    random = Random(9)
    small = torch.tensor([10.0**e for e in (-30, -20, -10, -8, -6, -4, -3, -2)])
    x = torch.cat([torch.linspace(-10, 10, 401), small, -small, random.normal(100, std=2.0)])
    x = x.clamp(-10, 10).sort().values.double().requires_grad_()  # each a float32 number too

    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    values = {
        "erf": torch.erf(x),
        "gelu": 0.5 * x * torch.erfc(-x / math.sqrt(2)),
        "gelu_tanh": x * torch.sigmoid(2 * u),
    }
    torch_forms = {"erf": torch.erf(x), "gelu": F.gelu(x), "gelu_tanh": F.gelu(x, approximate="tanh")}
    tensors = {"x": x.detach()}
    for name, value in values.items():
        (grad,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        (torch_grad,) = torch.autograd.grad(torch_forms[name].sum(), x)
        torch.testing.assert_close(value, torch_forms[name], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(grad, torch_grad, rtol=1e-13, atol=1e-14)
        tensors |= {name: value.detach(), f"{name}.grad": grad}
    for point, value, gelu in zip(x.tolist(), values["erf"].tolist(), values["gelu"].tolist()):
        assert math.isclose(value, math.erf(point), rel_tol=1e-15), point
        assert math.isclose(gelu, 0.5 * point * math.erfc(-point / math.sqrt(2)), rel_tol=1e-13), point
    return safetensors_file({"dtype": "float64", "points": len(x)}, tensors)


# --- The files -----------------------------------------------------------------------------------------------------

MAKERS = [vit, vit_bias_mean, mlp, attention, layer_norm, patch_embed, cross_entropy, optim, erf_gelu]
FILES = {f"{make.__name__}.safetensors": make for make in MAKERS} | {"schedule.json": schedule}


def main(files=FILES) -> int:
    parser = argparse.ArgumentParser(description="Makes the golden files from PyTorch.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: beside this script)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    arguments = parser.parse_args()

    for package in (torch, timm, safetensors):
        version, wanted = package.__version__.split("+")[0], VERSIONS[package.__name__]
        if version != wanted:
            parser.error(f"{package.__name__} is {version}; the files are made with {wanted}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    different = []
    for name, make in files.items():
        path, content = arguments.out / name, make()
        if arguments.check:
            if not path.exists() or path.read_bytes() != content:
                different.append(name)
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(content)
            os.replace(temporary, path)
        print(f"{len(content):>8} bytes  {name}")
    if different:
        print("not the same as the files here: " + ", ".join(different), file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
