"""The process that fuzzes one target. It ends with exit code 0 only if no input failed."""

from __future__ import annotations

import importlib
import os
import random
import sys
import warnings
from pathlib import Path

import atheris

from tests.fuzz.damage import TOKENS, damaged
from tests.fuzz.limits import Target, check, limit_address_space


def load_target(place: str) -> Target:
    """Make the target at MODULE:CLASS, whose code atheris then follows."""
    module, _, name = place.partition(":")
    with atheris.instrument_imports(include=["app", "model", "python_multipart"]):
        target: Target = getattr(importlib.import_module(module), name)()
    return target


def fuzz_target(target: Target, folder: Path, inputs: int, seed: int) -> None:
    """Parse damaged inputs until one fails, or until so many were parsed; then end this process.

    An input that reaches new code is kept in folder/corpus, one that fails in folder.
    """
    parsed = accepted = 0

    def parse(data: bytes) -> None:
        nonlocal parsed, accepted
        accepted += check(target, data)
        parsed += 1
        if parsed == inputs:
            print(f"{parsed} inputs, {accepted} accepted, {parsed - accepted} refused", flush=True)
            os._exit(0)  # atheris never returns, and the application's threads would keep the process alive.

    def mutate(data: bytes, max_bytes: int, mutation_seed: int) -> bytes:
        def mutate_bytes(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, len(part) + 64))

        return damaged(data, random.Random(mutation_seed), mutate_bytes, target.seeds)[:max_bytes]

    for path in (folder / "seeds", folder / "corpus"):
        path.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds):
        (folder / "seeds" / f"{number:03}").write_bytes(data)
    tokens = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    (folder / "dictionary").write_text("".join(f'"{token}"\n' for token in tokens))
    warnings.simplefilter("ignore")  # Damage may warn; parsing may not.
    limit_address_space()
    largest_bytes = max(map(len, target.seeds))
    options = (
        f"-seed={seed} -timeout={target.hang_limit_s} -artifact_prefix={folder}/ -dict={folder}/dictionary "
        # check() measures memory more exactly than libFuzzer.
        f"-max_len={2 * largest_bytes} -rss_limit_mb=0 "
        # Most damage to damaged files is refused at once: keep valid files, and damage each once or twice.
        "-keep_seed=1 -reduce_inputs=0 -cross_over=0 -mutate_depth=2"
    )
    arguments = [sys.argv[0], *options.split(), str(folder / "corpus"), str(folder / "seeds")]
    atheris.Setup(arguments, atheris.instrument_func(parse), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz_target(load_target(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
