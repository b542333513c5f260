#!/usr/bin/env python3
"""Makes optimizers.safetensors: twenty steps of the optimizers that are not PyTorch's own, by their reference
implementations, with prescribed gradients.

- Muon: timm's, its iteration in the parameters' own type (timm's runs in bfloat16).
- Schedule-free AdamW: `AdamWScheduleFreeReference` of the authors' `schedulefree`; the trained weights are y, the
  judged ones x.
- SOAP: the authors' soap.py (github.com/nikhilvyas/SOAP, commit a1e5535), named by --soap. Its decompositions are in
  float32 even for float64; here they stay in float64. Weight decay is applied before its step, not after it. Its
  matrices are such that no basis is arbitrary: each side that has one is no longer than the other.
- EMA: timm's ModelEmaV3 beside SGD, with a buffer.

Made as make.py says, with schedulefree 1.4.1. To make it again:

    python crates/testkit/golden/make_optimizers.py --soap soap.py [--check]
"""

import argparse
import functools
import importlib.util
import sys
from pathlib import Path

import timm.optim.muon
import torch
from make import Random, main, rounded, safetensors_file, with_prefix
from schedulefree import AdamWScheduleFreeReference
from timm.optim import Muon
from timm.utils import ModelEmaV3
from torch import nn

STEPS = 20
SHAPES = {"square": (6, 6), "tall": (9, 5), "wide": (4, 7), "conv": (5, 2, 2, 3), "thin": (2, 9), "bias": (7,), "token": (1, 1, 3)}
# What all three of SOAP's implementations agree to be a matrix, and what is none.
OF_SOAP = ["square", "tall", "wide", "bias"]
# For all else timm's Muon with Nesterov's momentum takes NAdamW.
MATRICES = ["square", "tall", "wide", "conv"]
SOME = {"soap": OF_SOAP, "muon_nesterov": MATRICES}


def muon(parameters, lr, momentum, nesterov, betas, eps, weight_decay, dtype):
    exact = functools.partial(ORTHOGONALIZED, dtype=dtype)
    timm.optim.muon.zeropower_via_newtonschulz = exact
    options = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    return Muon(parameters, nesterov=nesterov, **options)


ORTHOGONALIZED = timm.optim.muon.zeropower_via_newtonschulz


def schedule_free(parameters, lr, betas, eps, weight_decay, dtype):
    optimizer = AdamWScheduleFreeReference(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    optimizer.param_groups[0]["train_mode"] = True
    return optimizer


def soap(parameters, lr, betas, eps, weight_decay, precondition_frequency, max_precond_dim, dtype):
    # Its statistics have the default type.
    torch.set_default_dtype(dtype)
    if dtype == torch.float64:
        torch.Tensor.float = torch.Tensor.double
    parameters = list(parameters)
    optimizer = SOAP.SOAP(
        parameters,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=0.0,
        precondition_frequency=precondition_frequency,
        max_precond_dim=max_precond_dim,
    )
    plain, first = optimizer.step, [True]

    def step():
        for parameter in parameters:
            if not first[0]:
                parameter.data.mul_(1 - optimizer.param_groups[0]["lr"] * weight_decay)
        first[0] = False
        plain()

    optimizer.step = step
    return optimizer


CASES = {
    "muon": (muon, {"lr": 0.02, "momentum": 0.95, "nesterov": False, "betas": [0.9, 0.95], "eps": 1e-7, "weight_decay": 0.05}),
    "muon_nesterov": (muon, {"lr": 0.02, "momentum": 0.9, "nesterov": True, "betas": [0.9, 0.95], "eps": 1e-7, "weight_decay": 0.0}),
    "schedule_free": (schedule_free, {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}),
    "soap": (
        soap,
        {"lr": 0.01, "betas": [0.95, 0.9], "eps": 1e-8, "weight_decay": 0.05, "precondition_frequency": 3, "max_precond_dim": 6},
    ),
}


def rate(lr, step):
    """A warm-up of four steps, and a fall."""
    return lr * min((step + 1) / 4, 1.0) * (1.0 if step < 12 else 0.5)


def trajectory(name, initial, grads, dtype):
    make, options = CASES[name]
    parameters = {key: nn.Parameter(value.to(dtype, copy=True)) for key, value in initial.items()}
    parameters = {key: parameters[key] for key in SOME.get(name, parameters)}
    single = torch.Tensor.float
    optimizer = make(parameters.values(), dtype=dtype, **options)
    after = {key: [] for key in parameters}
    for step in range(STEPS):
        for key, parameter in parameters.items():
            parameter.grad = grads[key][step].to(dtype)
        optimizer.param_groups[0]["lr"] = rate(options["lr"], step)
        optimizer.step()
        for key, parameter in parameters.items():
            after[key].append(parameter.detach().clone())
    torch.Tensor.float = single
    torch.set_default_dtype(torch.float32)
    if name == "schedule_free":
        optimizer.eval()
        after |= {f"x.{key}": [parameter.detach().clone()] for key, parameter in parameters.items()}
    return {key: torch.stack(values) for key, values in after.items()}


def averages(warm_up, dtype):
    """A model of one weight and one buffer that move by prescribed steps, and its average."""
    random = Random(18)
    model = nn.Module()
    model.weight = nn.Parameter(random.normal(4, 3).to(dtype))
    model.register_buffer("running", random.normal(5).to(dtype))
    average = ModelEmaV3(model, decay=0.9, use_warmup=warm_up)
    after = {"weight": [], "running": []}
    for step in range(STEPS):
        model.weight.data -= 0.1 * random.normal(4, 3).to(dtype)
        model.running += random.normal(5).to(dtype)
        average.update(model, step=step + 1)
        for key in after:
            after[key].append(getattr(average.module, key).detach().clone())
    return {key: torch.stack(values) for key, values in after.items()}


def optimizers() -> bytes:
    random = Random(17)
    initial = {key: random.normal(*shape) for key, shape in SHAPES.items()}
    grads = {key: random.normal(STEPS, *shape) for key, shape in SHAPES.items()}
    tensors = with_prefix("initial", initial) | with_prefix("grads", grads)
    for name in CASES:
        tensors |= with_prefix(name, rounded(functools.partial(trajectory, name, initial, grads), name))
    for name, warm_up in [("ema", False), ("ema_warm_up", True)]:
        tensors |= with_prefix(name, rounded(functools.partial(averages, warm_up), name))
    random = Random(18)
    moves = {"weight": random.normal(4, 3), "running": random.normal(5)}
    steps = {"weight": [], "running": []}
    for _ in range(STEPS):
        steps["weight"].append(random.normal(4, 3))
        steps["running"].append(random.normal(5))
    tensors |= with_prefix("moves.first", moves)
    tensors |= with_prefix("moves", {key: torch.stack(values) for key, values in steps.items()})
    rates = {name: [rate(options["lr"], step) for step in range(STEPS)] for name, (_, options) in CASES.items()}
    described = {name: options for name, (_, options) in CASES.items()}
    config = {"steps": STEPS, "optimizers": described, "rates": rates, "parameters": list(SHAPES), **SOME}
    return safetensors_file(config, tensors)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--soap", type=Path, required=True, help="the authors' soap.py")
    arguments, rest = parser.parse_known_args()
    spec = importlib.util.spec_from_file_location("soap", arguments.soap)
    SOAP = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(SOAP)
    sys.argv[1:] = rest
    sys.exit(main({"optimizers.safetensors": optimizers}))
