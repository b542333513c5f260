#!/usr/bin/env python3
"""The forward pass in ONNX Runtime, to time `vitrine bench forward` against.

The model is that of `torch_step.py`, in evaluation mode, exported by PyTorch into a temporary file. The export runs in
a process of its own, so that `peak_rss_mb` is ONNX Runtime's alone. All of ONNX Runtime's graph optimisations are on.
It does not train, and its CPU kernels know no bf16: both end with exit code 3.

    pip install torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
    python benches/peers/ort_step.py --threads 2 --steps 20 --forward
"""

import tempfile
from pathlib import Path

from timing import MODELS, arguments, in_another_process, not_available, report


def export(model: str, batch_size: int, path: str) -> None:
    import torch

    from torch_step import Vit

    torch.manual_seed(0)
    sizes = MODELS[model]
    images = torch.rand(batch_size, sizes.channels, sizes.image, sizes.image)
    torch.onnx.export(Vit(sizes).eval(), (images,), path, input_names=["images"], dynamo=True, verbose=False)


def main() -> None:
    given = arguments("Times the forward pass in ONNX Runtime.")
    if not given.forward:
        not_available("ONNX Runtime does not train: give --forward")
    if given.precision != "f32":
        not_available(f"ONNX Runtime's CPU kernels do not compute in {given.precision}")

    import numpy
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        in_another_process("ort_step", "export", given.model, given.batch_size, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    sizes = MODELS[given.model]
    shape = (given.batch_size, sizes.channels, sizes.image, sizes.image)
    images = numpy.random.default_rng(0).random(shape, dtype=numpy.float32)
    inputs = {session.get_inputs()[0].name: images}
    (logits,) = session.run(None, inputs)
    assert logits.shape == (given.batch_size, sizes.classes), logits.shape
    report(given, f"onnxruntime {onnxruntime.__version__}", given.threads, lambda: session.run(None, inputs))


if __name__ == "__main__":
    main()
