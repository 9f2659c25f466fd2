"""Classification of images, by the support set of a session or one sent with the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from app.api.bodies import body_reader, read_classify_body
from app.api.body_descriptions import image_body
from app.api.body_models import ClassifyBody, ClassifyOptions, ClassifyStatelessBody
from app.api.dependencies import Owner, SessionId, require_same_weights
from app.api.media_types import JSON
from app.api.results import results_json
from app.api.state import Service, ServiceState
from app.inference.engine import SupportFace, Timings, Upload
from app.inference.fairness import Lane
from csrn_client.schemas import Results
from model.errors import CsrnError
from model.support_set import Example, SupportSet

router = APIRouter(tags=["classify"])


@router.post(
    "/v1/sessions/{session_id}/classify",
    response_model=Results,
    openapi_extra=image_body(ClassifyBody, or_one_image=True),
)
async def classify(
    session_id: SessionId,
    owner: Owner,
    service: Service,
    body: Annotated[ClassifyBody, Depends(read_classify_body)],
) -> Response:
    """Relation scores of the face in each image with each class of the session."""
    timings, lane = Timings(service.engine.observer), Lane(owner=owner, session_id=session_id)
    session = await service.store.version(owner, session_id)
    require_same_weights(service, session)
    support = await service.supports.get(owner, session)
    timings.mark("support")
    return await _classify(service, body.images, support, timings, lane, options=body)


@router.post("/v1/classify", response_model=Results, openapi_extra=image_body(ClassifyStatelessBody))
async def classify_stateless(
    owner: Owner,
    service: Service,
    body: Annotated[ClassifyStatelessBody, Depends(body_reader(ClassifyStatelessBody))],
) -> Response:
    """Classify images by examples in the same request. Nothing is stored."""
    timings, lane = Timings(service.engine.observer), Lane(owner=owner)
    examples = []
    for index, outcome in enumerate(await service.engine.encode_support(body.support, lane=lane)):
        if not isinstance(outcome, SupportFace):
            raise type(outcome)(f"support image {index}: {outcome}")
        examples.append(Example(example_id=str(index), label=body.labels[index], features=outcome.features))
    support = await service.engine.network.build_support_set(examples, lane=lane)
    timings.mark("support")
    return await _classify(service, body.images, support, timings, lane, options=body)


async def _classify(
    service: ServiceState,
    uploads: Sequence[Upload],
    support: SupportSet,
    timings: Timings,
    lane: Lane,
    *,
    options: ClassifyOptions,
) -> Response:
    """The response with the results. Raises: the error of the first image if no image could be read."""
    outcomes = await service.engine.classify(
        uploads, support, all_faces=options.all_faces, timings=timings, lane=lane
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, CsrnError)]
    if errors and len(errors) == len(outcomes):
        detail = str(errors[0]) if len(errors) == 1 else f"none of the {len(errors)} images can be read"
        raise type(errors[0])(detail)
    content = await results_json(
        uploads,
        outcomes,
        checkpoint=service.engine.checkpoint,
        unknown_below=support.unknown_below if options.unknown_below is None else options.unknown_below,
        top_k=options.top_k,
        regions=options.regions,
        timings_ms=timings.stages_ms,
    )
    return Response(content, media_type=JSON)
