#!/usr/bin/env python3
"""Makes resampled.json beside this script, with timm 1.0.31 (torch 2.15.0) and folders of crates/models/tests/golden/forms:
the positions of timm_vit (a class token and 4x4 patches) for other grids, and a table of timm_swin (windows of 4x4) for
other windows, row by row."""

import json
from pathlib import Path

from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table

here = Path(__file__).parent
forms = here / "../../../models/tests/golden/forms"
positions = load_file(forms / "timm_vit/model.safetensors")["pos_embed"]
grids = {
    f"{height}x{width}": resample_abs_pos_embed(positions, [height, width], [4, 4]).flatten().tolist()
    for height, width in [(7, 7), (3, 3), (2, 5), (4, 6)]
}
table = load_file(forms / "timm_swin/model.safetensors")["layers.0.blocks.1.attn.relative_position_bias_table"]
windows = {
    f"{p}x{q}": resize_rel_pos_bias_table(table, (p, q), ((2 * p - 1) * (2 * q - 1), table.shape[1])).flatten().tolist()
    for p, q in [(6, 6), (3, 5), (2, 7)]
}
(here / "resampled.json").write_text(json.dumps({"positions": grids, "distances": windows}) + "\n")
