"""Classification of images, by the support set of a session or one sent with the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Response, UploadFile

from app.api.dependencies import Images, Labels, Owner, read_images, require_multipart, require_same_weights
from app.api.errors import InvalidLabel
from app.api.results import results_json
from app.api.state import Service, ServiceState
from app.inference.engine import SupportFace, Timings, Upload
from app.inference.fairness import Lane
from csrn_client.schemas import Results
from model.errors import CsrnError
from model.support_set import Example, SupportSet

router = APIRouter(tags=["classify"], dependencies=[Depends(require_multipart)])

UnknownBelow = Annotated[
    float | None, Form(ge=0, le=1, description="Score below which no class is predicted; computed by default")
]
AllFaces = Annotated[bool, Form(description="Score every face of an image, the largest first")]
Regions = Annotated[bool, Form(description="Add the corners of the face, eye and lip patches")]


@router.post("/v1/sessions/{session_id}/classify", response_model=Results)
async def classify(
    session_id: str,
    owner: Owner,
    service: Service,
    images: Images,
    unknown_below: UnknownBelow = None,
    all_faces: AllFaces = False,
    regions: Regions = False,
) -> Response:
    """Relation scores of the face in each image with each class of the session."""
    timings, lane = Timings(service.engine.observer), Lane(owner=owner, session_id=session_id)
    session = await service.store.version(owner, session_id)
    require_same_weights(service, session)
    uploads = await read_images(service, owner, images)
    support = await service.supports.get(owner, session)
    timings.mark("support")
    return await _classify(
        service,
        uploads,
        support,
        timings,
        lane,
        unknown_below=unknown_below,
        all_faces=all_faces,
        regions=regions,
    )


@router.post("/v1/classify", response_model=Results)
async def classify_stateless(
    owner: Owner,
    service: Service,
    support: Annotated[list[UploadFile], File(description="Images of the examples, one file part each")],
    labels: Labels,
    images: Images,
    unknown_below: UnknownBelow = None,
    all_faces: AllFaces = False,
    regions: Regions = False,
) -> Response:
    """The same without a session: the request includes the support set, and the service does not store it."""
    timings, lane = Timings(service.engine.observer), Lane(owner=owner)
    if len(labels) != len(support):
        raise InvalidLabel(f"{len(support)} support images need as many labels, not {len(labels)}")
    sent = await read_images(service, owner, [*support, *images])
    support_uploads, uploads = sent[: len(support)], sent[len(support) :]
    examples = []
    for index, outcome in enumerate(await service.engine.encode_support(support_uploads, lane=lane)):
        if not isinstance(outcome, SupportFace):
            raise type(outcome)(f"support image {index}: {outcome}")
        examples.append(Example(example_id=str(index), label=labels[index], features=outcome.features))
    support_set = await service.engine.network.build_support_set(examples, lane=lane)
    timings.mark("support")
    return await _classify(
        service,
        uploads,
        support_set,
        timings,
        lane,
        unknown_below=unknown_below,
        all_faces=all_faces,
        regions=regions,
    )


async def _classify(
    service: ServiceState,
    uploads: Sequence[Upload],
    support: SupportSet,
    timings: Timings,
    lane: Lane,
    *,
    unknown_below: float | None,
    all_faces: bool,
    regions: bool,
) -> Response:
    """The response with the results. Raises: the error of the first image if no image could be read."""
    outcomes = await service.engine.classify(
        uploads, support, all_faces=all_faces, timings=timings, lane=lane
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, CsrnError)]
    if errors and len(errors) == len(outcomes):
        detail = str(errors[0]) if len(errors) == 1 else f"none of the {len(errors)} images can be read"
        raise type(errors[0])(detail)
    content = await results_json(
        uploads,
        outcomes,
        checkpoint=service.engine.checkpoint,
        unknown_below=support.unknown_below if unknown_below is None else unknown_below,
        regions=regions,
        timings_ms=timings.stages_ms,
    )
    return Response(content, media_type="application/json")
