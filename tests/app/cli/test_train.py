from __future__ import annotations

import dataclasses
import inspect

from app.cli.training import train
from model.training.inputs import TrainSettings

OTHERS = {"context", "data", "out", "split", "teacher", "run", "save_every", "device"}


def test_every_option_is_a_setting_of_the_training() -> None:
    options = inspect.signature(train).parameters.keys() - OTHERS
    assert options <= {field.name for field in dataclasses.fields(TrainSettings)}
    assert len(options) > 15
