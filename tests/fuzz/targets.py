"""Every target by its name."""

from __future__ import annotations

from tests.fuzz.api_target import Requests
from tests.fuzz.archive_targets import Archives, Checkpoints
from tests.fuzz.image_targets import Faces, Images
from tests.fuzz.pth_target import PublishedPairs
from tests.fuzz.target import Target

TARGETS: dict[str, type[Target]] = {
    target.name: target for target in (Images, Faces, Requests, Archives, Checkpoints, PublishedPairs)
}
