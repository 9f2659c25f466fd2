"""Parts that several commands share: progress bars, the --json option, the device."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from app.settings import Settings

stderr = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line")]


class StageBars(Progress):
    """Progress bars on stderr, one for each stage that has begun."""

    def __init__(self, *, disable: bool = False) -> None:
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        super().__init__(*columns, console=stderr, disable=disable)
        self._rows: dict[str, TaskID] = {}

    def show(self, stage: str, done: int, total: int, *, description: str | None = None) -> None:
        """Show that a stage has done `done` of `total` steps."""
        if stage not in self._rows:
            self._rows[stage] = self.add_task(stage)
        self.update(self._rows[stage], completed=done, total=total, description=description or stage)


def torch_device() -> str:
    """The device that CSRN_DEVICE selects. Raises: DeviceMissing."""
    from app.inference.device import choose_device

    return choose_device(Settings().device)
