"""Inference of Swin-T against every fast way to run it on a CPU, in one run and with equal threads."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
import torch._inductor.config as inductor
from benchmarks.timing import Contenders, measure, swins
from benchmarks.timing import inference as eager
from torch import nn

from swin_core.models.precision import has_bfloat16


def inference(rounds: int) -> list[dict[str, Any]]:
    """Swin-T at 224 pixels, batch 1 and 8, beside timm, torchvision, timm compiled, ONNX Runtime and OpenVINO.

    In float32, and in bfloat16 where the processor has it. The ratio is that to the fastest of the others.
    """
    models = swins()
    results = []
    for batch in (1, 8):
        x = torch.randn(batch, 3, 224, 224)
        calls: Contenders = {name: eager(model, x) for name, model in models.items()}
        calls |= {"timm, compiled and frozen": _frozen(models["timm"], x)}
        calls |= _runtimes(models["timm"], x, "f32")
        results.append(measure(f"inference, Swin-T, 224 px, batch {batch}", calls, rounds, "fastest"))
        if has_bfloat16(torch.device("cpu")):
            narrow: Contenders = {name: _autocast(eager(model, x)) for name, model in models.items()}
            with torch.autocast("cpu", torch.bfloat16):
                narrow["timm, compiled and frozen"] = _autocast(_frozen(models["timm"], x))
            narrow |= _runtimes(models["timm"], x, "bf16")
            results.append(measure(f"inference, Swin-T, 224 px, batch {batch}, bfloat16", narrow, rounds, "fastest"))
    return results


def _autocast(call: Callable[[], object]) -> Callable[[], object]:
    def narrow() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return call()

    return narrow


def _frozen(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return a call of a model that torch.compile has compiled with its weights as constants."""
    torch._dynamo.reset()
    with inductor.patch(freezing=True), torch.no_grad():
        compiled = torch.compile(model)
        compiled(x)

    def call() -> object:
        with torch.no_grad():
            return compiled(x)

    return call


def _runtimes(model: nn.Module, x: torch.Tensor, precision: str) -> Contenders:
    """Return calls of a model in ONNX Runtime (float32 only) and OpenVINO, after comparing their logits with it."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), file, dynamo=True, verbose=False, external_data=False)
        expected = model(x).numpy()
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(file, "CPU", settings)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Its waiting threads would take the processor from the contender that comes next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pixels = x.numpy()
    request, name = compiled.create_infer_request(), session.get_inputs()[0].name
    calls: Contenders = {f"OpenVINO, {precision}": lambda: request.infer([pixels], share_inputs=True)[0]}
    if precision == "f32":
        calls["ONNX Runtime"] = lambda: session.run(None, {name: pixels})[0]
    tolerance = 1e-3 if precision == "f32" else 5e-2
    for call in calls.values():
        np.testing.assert_allclose(np.asarray(call()), expected, atol=tolerance * np.abs(expected).max())
    return calls
