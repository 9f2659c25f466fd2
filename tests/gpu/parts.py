"""The parts of make gpu-check, without those that are csrn commands.

Each returns its figures. The key "missed" says which target was missed, if any.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from app.inference.device import choose_precision, compute_in_float32
from app.inference.network import FaceBatch
from app.inference.watchdog import EXIT_CODE
from app.settings import Settings
from model.checkpoint import load_checkpoint
from model.classifier import Classifier
from model.support_set import Example, SupportSet
from model.vision.faces import FaceReader
from tests.support.api import sample, teach
from tests.support.faulty_service import FAULT_FILE
from tests.support.samples import EXPRESSIONS, sample_bytes
from tests.support.service import Service

SHOTS, IMAGES = 3, 8
FLOAT32_TOLERANCE, BFLOAT16_TOLERANCE = 1e-3, 2e-2
"""Largest differences from the scores of a CPU in float32"""
BATCH = 256
FAULT_LIMIT_S = 20
"""The longest time from the provoked fault to the end of the process"""


def make_classifier(device: str, precision: str = "auto") -> Classifier:
    compute_in_float32()
    checkpoint = load_checkpoint(Settings().weights, device=device)
    return Classifier(checkpoint, encoder_dtype=choose_precision(precision, device))


def support_set(classifier: Classifier, faces: FaceBatch, labels: Sequence[str]) -> SupportSet:
    features = classifier.encode(faces.patches, faces.points)
    return classifier.build_support_set(
        [
            Example(example_id=str(number), label=label, features=found)
            for number, (label, found) in enumerate(zip(labels, features, strict=True))
        ]
    )


def random_faces(classifier: Classifier, count: int) -> FaceBatch:
    rng, size_px = np.random.default_rng(0), classifier.checkpoint.config.layout.size_px
    return FaceBatch(
        patches=rng.integers(0, 256, (count, 3, size_px, size_px, 3), dtype=np.uint8),
        points=rng.random((count, 468, 2), dtype=np.float32),
    )


def parity(device: str) -> dict[str, Any]:
    """Compare the scores of the sample faces with those of a CPU that computes everything in float32."""
    reader = FaceReader(make_classifier("cpu").checkpoint.config.layout)
    images = [(label, number) for label in EXPRESSIONS for number in range(IMAGES)]
    faces = [reader.read_single(sample_bytes(label, number)) for label, number in images]
    reader.close()
    taught = [face for face, (_, number) in zip(faces, images, strict=True) if number < SHOTS]
    asked = [face for face, (_, number) in zip(faces, images, strict=True) if number >= SHOTS]
    labels = [label for label in EXPRESSIONS for _ in range(SHOTS)]
    queries = FaceBatch.of(asked)

    def class_scores(classifier: Classifier) -> Any:
        support = support_set(classifier, FaceBatch.of(taught), labels)
        (scored,) = classifier.classify([(support, queries.patches, queries.points)])
        return np.stack([query.scores for query in scored])

    expected = class_scores(make_classifier("cpu", "float32"))
    found = {name: class_scores(make_classifier(device, name)) for name in ("float32", "bfloat16")}
    largest = {name: float(np.abs(scores - expected).max()) for name, scores in found.items()}
    kept = (found["bfloat16"].argmax(axis=1) == expected.argmax(axis=1)).mean()
    within = largest["float32"] < FLOAT32_TOLERANCE and largest["bfloat16"] < BFLOAT16_TOLERANCE
    return {
        "queries": len(asked),
        "largest_difference": largest,
        "same_prediction_in_bfloat16": float(kept),
        "missed": None if within else f"scores differ from the CPU's by {largest}",
    }


class _CountBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write, each tensor once for each operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
            self.count += sum(tensor.nbytes for tensor in tensors)
        return found


def roofline(device: str) -> dict[str, Any]:
    """Compare the encoder's speed with a large product and a large copy on the same device.

    The larger share shows whether operations or bytes limit the speed; if both are low, kernel launches do.
    """
    classifier = make_classifier(device, "bfloat16")
    batch = BATCH if device == "cuda" else 8
    faces = random_faces(classifier, batch)
    there = [torch.from_numpy(array).to(device) for array in (faces.patches, faces.points)]
    side, numbers = (8192, 2**29) if device == "cuda" else (512, 2**22)
    with torch.inference_mode():
        left, right = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
        source, target = torch.empty(2, numbers, device=device, dtype=torch.uint8)
        product_s = seconds(lambda: left @ right, device)
        copy_s = seconds(lambda: target.copy_(source), device)
        encode = functools.partial(classifier.encode_on_device, *there)
        encode_s = seconds(encode, device)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        encode()
    with torch.no_grad(), _CountBytes() as moved:
        encode()
    peak_flops, peak_bytes = 2 * side**3 / product_s, 2 * numbers / copy_s
    operations = flops.get_total_flops()
    return {
        "batch": batch,
        "encode_us_per_face": encode_s / batch * 1e6,
        "gflop_per_face": operations / batch / 1e9,
        "mb_per_face": moved.count / batch / 1e6,
        "peak_tflop_per_s": peak_flops / 1e12,
        "peak_gb_per_s": peak_bytes / 1e9,
        "share_of_peak_operations": operations / encode_s / peak_flops,
        "share_of_peak_bytes": moved.count / encode_s / peak_bytes,
    }


def seconds(work: Callable[[], object], device: str, *, repeat: int = 20) -> float:
    """Mean duration of a piece of work that runs on the device."""
    for _ in range(3):
        work()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeat):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / repeat


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def memory(device: str) -> dict[str, Any]:
    """Device memory at rest, and at the peak of the largest batch of 20-way 10-shot sessions."""
    classifier = make_classifier(device)
    way, shot, batch = (20, 10, BATCH) if device == "cuda" else (2, 2, 4)
    faces = random_faces(classifier, way * shot + batch)
    support = support_set(classifier, faces[: way * shot], [str(n // shot) for n in range(way * shot)])
    queries = faces[way * shot :]
    figures: dict[str, Any] = {"way": way, "shot": shot, "batch": batch, "support_set": support.size_bytes}
    for moment in ("rest", "peak"):
        if moment == "peak":
            classifier.classify([(support, queries.patches, queries.points)])
        if device == "cuda":
            free, total = torch.cuda.mem_get_info()
            figures[moment] = {
                "allocated": torch.cuda.max_memory_allocated(),
                "reserved": torch.cuda.max_memory_reserved(),
                "used_on_the_device": total - free,
            }
    return figures


def fault(device: str) -> dict[str, Any]:
    """Break the device of a running service, which must end with its exit code and work when started again.

    On a GPU the fault is real: an index outside of a tensor, after which the CUDA context is unusable. In a
    dry run it is a fake error.
    """
    with tempfile.TemporaryDirectory() as folder:
        trigger = Path(folder) / "fault"
        csrn = (sys.executable, "-m", "tests.support.faulty_service")
        env = {FAULT_FILE: str(trigger), "CSRN_DEVICE": device}
        with Service(Path(folder), csrn=csrn, **env) as service:
            taught = teach(service.client, dict.fromkeys(EXPRESSIONS[:2], 1))
            trigger.write_text("device")
            began = time.monotonic()
            answer = httpx.post(f"{service.url}{taught}/classify", files=[sample("anger", 4)], timeout=60)
            exit_code, ended_s = service.wait(FAULT_LIMIT_S), time.monotonic() - began
            trigger.unlink()
            service.start()
            service.wait_until_ready()
            again = httpx.post(f"{service.url}{taught}/classify", files=[sample("anger", 4)], timeout=60)
        log = service.log_text
    as_planned = (answer.status_code, exit_code, again.status_code) == (500, EXIT_CODE, 200)
    return {
        "fault": "a CUDA device-side assertion" if device == "cuda" else "a fake error (dry run)",
        "answer": answer.status_code,
        "exit_code": exit_code,
        "ended_after_s": round(ended_s, 1),
        "answer_after_restart": again.status_code,
        "reason_logged": "the device thread met a permanent error" in log,
        "missed": None if as_planned else "the process did not end as planned",
    }


PARTS = {"parity": parity, "roofline": roofline, "memory": memory, "fault": fault}
