#!/usr/bin/env python3
"""Makes attention_maps.safetensors: attention weights of timm's models of make_models.py, their gradients for a class, and
the maps that are made of them, for the first image of each file.

Keys, for each MODEL of `config.models`: `MODEL.rollout` (Abnar and Zuidema 2020), `MODEL.relevance` (Chefer et al. 2021)
and `MODEL.last.H`, the last layer's by head, each of the patches as the head reads them; `MODEL.gradient`, that of the
pixels times these, summed over channels. `config.models.MODEL` has the class.

Made as make.py says: python crates/testkit/golden/make_attention.py [--check]
"""

import functools
import sys
from pathlib import Path

import torch
from make import main, rounded, safetensors_file, with_prefix
from make_models import CASES, SINGLE, exact_rope, our_name
from safetensors.torch import load_file

# The class that is explained, and whether the head reads the class token.
MODELS = {"vit_dinov2": (1, True), "vit_dinov3": (3, False), "vit_qk_norm": (0, False), "vit_gap": (4, False)}


def maps(name: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    kind, (label, reads_first) = CASES[name], MODELS[name]
    stored = load_file(Path(__file__).parent / f"{name}.safetensors")
    torch.Tensor.float = lambda tensor: tensor.to(dtype)
    model = kind.make()
    state = {key: stored[f"param.{our_name(key)}"] for key, _ in model.named_parameters()}
    model.load_state_dict(state, strict=True)
    model = model.to(dtype).eval()
    if dtype == torch.float64:
        exact_rope(model)
    kept = []
    for block in model.blocks:
        block.attn.fused_attn = False

        def keep(module, inputs, output):
            output.retain_grad()
            kept.append(output)

        block.attn.attn_drop = torch.nn.Identity()
        block.attn.attn_drop.register_forward_hook(keep)
    images = stored["input"][:1].to(dtype).requires_grad_()
    model(images)[0, label].backward()
    torch.Tensor.float = SINGLE

    patches = (kind.image_size[0] // kind.patch_size[0]) * (kind.image_size[1] // kind.patch_size[1])
    tokens = kept[0].shape[-1]
    prefix, each = tokens - patches, torch.eye(tokens, dtype=dtype)

    def read(matrix):
        rows = matrix[:1] if reads_first else matrix[prefix:]
        return rows[:, prefix:].mean(dim=0)

    rolled, relevance = each, each
    for weights in kept:
        mean = weights[0].mean(dim=0) + each
        rolled = mean / mean.sum(dim=-1, keepdim=True) @ rolled
        relevance = relevance + (weights * weights.grad)[0].clamp(min=0).mean(dim=0) @ relevance
    last = {f"last.{head}": read(weights) for head, weights in enumerate(kept[-1][0])}
    gradient = (images * images.grad)[0].sum(dim=0).abs()
    found = {"rollout": read(rolled), "relevance": read(relevance - each), "gradient": gradient} | last
    return {key: value.detach() for key, value in found.items()}


def attention() -> bytes:
    tensors = {}
    for name in MODELS:
        tensors |= with_prefix(name, rounded(functools.partial(maps, name), name))
    return safetensors_file({"models": {name: label for name, (label, _) in MODELS.items()}}, tensors)


if __name__ == "__main__":
    sys.exit(main({"attention_maps.safetensors": attention}))
