#!/usr/bin/env python3
"""The forward pass in OpenVINO, to time `vitrine bench forward` against.

The model is that of `torch_step.py`, in evaluation mode, converted by OpenVINO from PyTorch and saved with weights in
f32 into a temporary folder. That runs in a process of its own, so that `peak_rss_mb` is OpenVINO's alone. The shape is
fixed, the hint is LATENCY, and products and attention are in the precision that is asked for. It does not train, which
ends with exit code 3, as does bf16 on a processor without instructions for it.

    pip install torch==2.15.0 openvino==2026.4.1
    python benches/peers/openvino_step.py --threads 2 --steps 20 --forward
"""

import tempfile
from pathlib import Path

from timing import MODELS, arguments, in_another_process, not_available, report


def export(model: str, batch_size: int, path: str) -> None:
    import openvino
    import torch

    from torch_step import Vit

    torch.manual_seed(0)
    sizes = MODELS[model]
    images = torch.rand(batch_size, sizes.channels, sizes.image, sizes.image)
    converted = openvino.convert_model(Vit(sizes).eval(), example_input=images, input=list(images.shape))
    openvino.save_model(converted, path, compress_to_fp16=False)


def main() -> None:
    given = arguments("Times the forward pass in OpenVINO.")
    if not given.forward:
        not_available("OpenVINO does not train: give --forward")

    import numpy
    import openvino

    core = openvino.Core()
    if given.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        not_available("OpenVINO does not compute in bf16 on this processor")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": given.threads,
        "INFERENCE_PRECISION_HINT": given.precision,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.xml")
        in_another_process("openvino_step", "export", given.model, given.batch_size, path)
        compiled = core.compile_model(path, "CPU", settings)

    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert precision == given.precision, precision
    sizes = MODELS[given.model]
    shape = (given.batch_size, sizes.channels, sizes.image, sizes.image)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(numpy.random.default_rng(0).random(shape, dtype=numpy.float32)))
    request.infer()
    logits = request.get_output_tensor()
    assert tuple(logits.shape) == (given.batch_size, sizes.classes), logits.shape
    version = openvino.__version__.split("-")[0]
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    report(given, f"openvino {version}", threads, request.infer)


if __name__ == "__main__":
    main()
