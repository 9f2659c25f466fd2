"""Classification of query images, by a session's support set or by one sent along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, UploadFile

from app.access.api_keys import Owner
from app.api.dependencies import (
    EngineDep,
    ImageReaderDep,
    Images,
    Labels,
    StoreDep,
    SupportsDep,
    require_multipart,
    require_same_weights,
)
from app.api.errors import InvalidLabel
from app.api.responses import results_answer
from app.inference.engine import Engine, SupportFace, Timings, Upload
from csrn_client.schemas import Results
from model.errors import CsrnError
from model.support_set import Example, SupportSet

router = APIRouter(tags=["classify"], dependencies=[Depends(require_multipart)])
UnknownBelow = Annotated[
    float | None,
    Form(ge=0, le=1, description="Score below which no class is predicted; default: the support set's own"),
]
WithRegions = Annotated[bool, Form(description="Tell where the face, eye and lip patches lie")]
AllFaces = Annotated[bool, Form(description="Answer for each face, largest first")]


@router.post("/v1/sessions/{session_id}/classify", response_model_exclude_unset=True)
async def classify(
    session_id: str,
    owner: Owner,
    store: StoreDep,
    engine: EngineDep,
    supports: SupportsDep,
    reader: ImageReaderDep,
    images: Images,
    unknown_below: UnknownBelow = None,
    all_faces: AllFaces = False,
    regions: WithRegions = False,
) -> Results:
    """Relation scores of each image's face with each class of the session."""
    timings = Timings(engine.observer)
    session = await store.get(owner, session_id)
    require_same_weights(session, engine)
    uploads = await reader.read(images)
    support = await supports.get(owner, session)
    timings.mark("support")
    return await _answer(
        engine, uploads, support, unknown_below, all_faces, regions, timings, lane=session_id
    )


@router.post("/v1/classify", response_model_exclude_unset=True)
async def classify_stateless(
    owner: Owner,
    engine: EngineDep,
    reader: ImageReaderDep,
    support: Annotated[list[UploadFile], File(description="Examples, one part an image")],
    labels: Labels,
    images: Images,
    unknown_below: UnknownBelow = None,
    all_faces: AllFaces = False,
    regions: WithRegions = False,
) -> Results:
    """The same without a session: the support set comes with the request and is forgotten."""
    timings = Timings(engine.observer)
    if len(labels) != len(support):
        raise InvalidLabel(f"{len(support)} support images need as many labels, not {len(labels)}")
    sent = await reader.read([*support, *images])
    support_uploads, uploads = sent[: len(support)], sent[len(support) :]
    examples = []
    for index, outcome in enumerate(await engine.encode_support(support_uploads, lane=owner)):
        if not isinstance(outcome, SupportFace):
            raise type(outcome)(f"support image {index}: {outcome}")
        examples.append(Example(example_id=str(index), label=labels[index], features=outcome.features))
    support_set = await engine.build_support_set(examples)
    timings.mark("support")
    return await _answer(engine, uploads, support_set, unknown_below, all_faces, regions, timings, lane=owner)


async def _answer(
    engine: Engine,
    uploads: Sequence[Upload],
    support: SupportSet,
    unknown_below: float | None,
    all_faces: bool,
    regions: bool,
    timings: Timings,
    *,
    lane: str,
) -> Results:
    """The results. Raises: the error of the first image if no image could be read."""
    outcomes = await engine.classify(uploads, support, all_faces=all_faces, timings=timings, lane=lane)
    errors = [outcome for outcome in outcomes if isinstance(outcome, CsrnError)]
    if errors and len(errors) == len(outcomes):
        detail = str(errors[0]) if len(errors) == 1 else f"none of the {len(errors)} images can be read"
        raise type(errors[0])(detail)
    return results_answer(
        uploads,
        outcomes,
        checkpoint=engine.checkpoint,
        unknown_below=support.unknown_below if unknown_below is None else unknown_below,
        regions=regions,
        timings_ms=timings.stages_ms,
    )
