"""Classify image files without a service, along the same way that its requests take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from app.answers import results_answer
from app.engine import SupportFace, Timings, Upload
from app.main import create_engine
from app.schemas import Results
from app.settings import Settings
from model.errors import CsrnError, NoFace
from model.support_set import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """One support image as it lies on disk."""

    label: str
    upload: Upload


async def classify_files(
    settings: Settings,
    *,
    support: Sequence[LabelledFile],
    queries: Sequence[Upload],
    unknown_below: float | None,
    all_faces: bool,
    on_rejected: Callable[[str, CsrnError], None],
) -> Results:
    """Results of the queries by the support files.

    Support images without one clear face are passed over; on_rejected is told their name and why.
    Raises: NoFace where no support image is left; CheckpointInvalid.
    """
    images = max(len(support), len(queries))
    engine = create_engine(settings.model_copy(update={"max_queued_images": images}))
    try:
        timings = Timings()
        examples = []
        outcomes = await engine.encode_support([file.upload for file in support])
        for file, outcome in zip(support, outcomes, strict=True):
            name = file.upload.filename or ""
            if isinstance(outcome, SupportFace):
                examples.append(
                    Example(
                        example_id=name,
                        label=file.label,
                        features=outcome.features,
                    )
                )
            else:
                on_rejected(name, outcome)
        if not examples:
            raise NoFace("no support image shows one clear face")
        support_set = await engine.build_support_set(examples)
        timings.mark("support")
        answers = await engine.classify(queries, support_set, all_faces=all_faces, timings=timings)
    finally:
        engine.close()
    return results_answer(
        queries,
        answers,
        checkpoint=engine.checkpoint,
        unknown_below=unknown_below,
        timings_ms=timings.stages_ms,
    )
