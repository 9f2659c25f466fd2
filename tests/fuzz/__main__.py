"""make fuzz: many damaged inputs to everything that takes bytes from strangers.

python -m tests.fuzz run --inputs 100000 --seed 1     goes on where a run of that seed was stopped
python -m tests.fuzz replay .fuzz/images-1-77.bin     one kept input again
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz import child
from tests.fuzz.run import Tally, fuzz
from tests.fuzz.targets import TARGETS

FOLDER = Path(".fuzz")
CHUNK = 1000
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    inputs: Annotated[int, typer.Option(min=1, help="In all, shared out by target")] = 100_000,
    seed: int = 1,
    targets: Annotated[str, typer.Option(help="Comma-separated; all by default")] = "",
    at_most: Annotated[int, typer.Option(help="Stop after so many, to go on later")] = 10**9,
) -> None:
    """Fuzz, show a table, fail where anything was found."""
    names = targets.split(",") if targets else list(TARGETS)
    shares = sum(TARGETS[name].share for name in names)
    wanted = {name: round(inputs * TARGETS[name].share / shares) for name in names}
    done = {name: _Done(FOLDER / f"{name}-{seed}.json") for name in names}
    with Progress(
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        for name in names:
            bar = bars.add_task(name, total=wanted[name], completed=done[name].inputs)
            while at_most > 0 and (start := done[name].inputs) < wanted[name]:
                count = min(CHUNK, wanted[name] - start, at_most)
                tally = Tally()
                for tally in fuzz(TARGETS[name], seed=seed, start=start, count=count, keep=FOLDER):
                    bars.update(bar, completed=start + tally.inputs)
                done[name].add(tally)
                at_most -= count
    print_table({name: kept.tally for name, kept in done.items()})
    if any(kept.tally.findings for kept in done.values()):
        raise typer.Exit(1)


@app.command()
def replay(path: Path) -> None:
    """Work on one kept input again, in this process."""
    target = TARGETS[path.name.partition("-")[0]]()
    print(json.dumps(child.work(target, path.read_bytes()), indent=2).replace("\\n", "\n"))
    target.close()


class _Done:
    """The tally of a target's finished chunks, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tally = Tally(**json.loads(path.read_text())) if path.exists() else Tally()

    @property
    def inputs(self) -> int:
        return self.tally.inputs

    def add(self, tally: Tally) -> None:
        kept = self.tally
        kept.inputs += tally.inputs
        kept.rejected += tally.rejected
        kept.accepted += tally.accepted
        kept.slowest_s = max(kept.slowest_s, tally.slowest_s)
        kept.largest_mib = max(kept.largest_mib, tally.largest_mib)
        kept.findings += tally.findings
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps(vars(kept)))


def print_table(tallies: dict[str, Tally]) -> None:
    table = Table("target", "inputs", "rejected", "accepted", "slowest (s)", "most memory (MiB)", "findings")
    for name, tally in tallies.items():
        table.add_row(
            name,
            f"{tally.inputs:,}",
            f"{tally.rejected:,}",
            f"{tally.accepted:,}",
            f"{tally.slowest_s:.2f}",
            f"{tally.largest_mib:.0f}",
            str(len(tally.findings)),
        )
    table.add_row("all", f"{sum(tally.inputs for tally in tallies.values()):,}")
    Console().print(table)
    for tally in tallies.values():
        for finding in tally.findings[:20]:
            print(finding)


if __name__ == "__main__":
    app()
