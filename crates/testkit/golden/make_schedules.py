"""Makes schedules.json: the learning rate of each update as timm's schedulers have it, some past the end.

Run in this folder: python make_schedules.py
Last run with timm 1.0.31 and torch 2.15.0.

cases: kind, base, last, total (steps, warm-up among them), warmup, warmup_from (null: the base over the warm-up's steps,
one step ahead of timm), for step every and gamma; and rates, by step.
"""

import json

import torch
from timm.scheduler import CosineLRScheduler, PolyLRScheduler, StepLRScheduler

BASE = 0.4


def rates(kind: str, last: float, total: int, warmup: int, start: float | None, every: int, gamma: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    warm = {"warmup_t": warmup, "warmup_lr_init": start or 0.0, "warmup_prefix": True, "t_in_epochs": False}
    main = total - warmup
    match kind:
        case "cosine":
            scheduler = CosineLRScheduler(optimizer, t_initial=main, lr_min=last, **warm)
        case "linear":
            scheduler = PolyLRScheduler(optimizer, t_initial=main, power=1.0, lr_min=last, **warm)
        case "step":
            scheduler = StepLRScheduler(optimizer, decay_t=every, decay_rate=gamma, **warm)
    found = []
    for step in range(total + 5):
        # Without a rate to begin from, ours is one step ahead during warm-up.
        ahead = 1 if start is None and step < warmup else 0
        found.append(BASE if step + ahead == warmup else scheduler._get_lr(step + ahead)[0])
    return found


def main() -> None:
    cases = []
    for kind in ["cosine", "linear", "step"]:
        for last, total, warmup, start in [(0.0, 30, 0, None), (0.01, 40, 8, 0.05), (0.02, 25, 5, None)]:
            if kind == "step" and warmup == 5:
                continue
            case = {"kind": kind, "base": BASE, "last": last, "total": total, "warmup": warmup, "warmup_from": start}
            case |= {"every": 7, "gamma": 0.3}
            case["rates"] = rates(kind, last, total, warmup, start, 7, 0.3)
            cases.append(case)
    with open("schedules.json", "w") as out:
        out.write(json.dumps({"cases": cases}) + "\n")


if __name__ == "__main__":
    main()
