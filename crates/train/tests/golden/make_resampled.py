#!/usr/bin/env python3
"""Makes resampled.json beside this script: the positions of crates/models/tests/golden/forms/timm_vit (a class token and
4x4 patches) as timm 1.0.31 (torch 2.15.0) resamples them for other grids, row by row."""

import json
from pathlib import Path

from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed

here = Path(__file__).parent
positions = load_file(here / "../../../models/tests/golden/forms/timm_vit/model.safetensors")["pos_embed"]
grids = {
    f"{height}x{width}": resample_abs_pos_embed(positions, [height, width], [4, 4]).flatten().tolist()
    for height, width in [(7, 7), (3, 3), (2, 5), (4, 6)]
}
(here / "resampled.json").write_text(json.dumps(grids) + "\n")
