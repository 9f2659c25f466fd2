"""Fuzzes one parser of untrusted bytes with atheris.

    python -m tests.fuzz files:images .fuzz/images 20000 1            # folder, number of inputs, seed
    python -m tests.fuzz files:images .fuzz/images/crash-0123         # parse one kept input again

Inputs that reach new code stay in FOLDER/corpus, and the next run starts from them.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import random
import resource
import sys
import warnings
from pathlib import Path

import atheris

from tests.fuzz.damage import TOKENS, damaged
from tests.fuzz.limits import MIB, Target, check
from tests.support.peak_memory import status_bytes

ADDRESS_SPACE_BYTES = 4096 * MIB
"""How much more a parser may allocate before it fails"""


def load_target(name: str) -> Target:
    """Make a target by its MODULE:FUNCTION."""
    module, _, function = name.partition(":")
    target: Target = getattr(importlib.import_module(f"tests.fuzz.{module}"), function)()
    return target


def fuzz(name: str, folder: Path, *, inputs: int, seed: int) -> None:
    """Parse damaged inputs until one fails or the given number is parsed. Then the process ends.

    The exit code is 0 only if no input failed. An input that fails is kept in the folder, beside the log.
    """
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, sys.stderr.fileno())  # check() sees in a file whether a parser printed something.
    with atheris.instrument_imports(include=["app", "model", "python_multipart"]):
        target = load_target(name)
    parsed = accepted = 0

    def parse(data: bytes) -> None:
        nonlocal parsed, accepted
        accepted += check(target, data)
        parsed += 1
        if parsed == inputs:
            print(f"{parsed} inputs, {accepted} accepted, {parsed - accepted} refused", flush=True)
            os._exit(0)  # atheris never returns, and the application's threads would keep the process alive.

    def mutate(data: bytes, max_bytes: int, mutation_seed: int) -> bytes:
        rng = random.Random(mutation_seed)
        return damaged(data, rng, lambda part: atheris.Mutate(part, len(part) + 64), target.seeds)[:max_bytes]

    for number, data in enumerate(target.seeds):
        (folder / "corpus" / f"seed-{number:03}").write_bytes(data)
    tokens = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    (folder / "dictionary").write_text("".join(f'"{token}"\n' for token in tokens))
    warnings.simplefilter("ignore")  # Damage may warn; parsing may not.
    resource.setrlimit(resource.RLIMIT_AS, (status_bytes("VmSize") + ADDRESS_SPACE_BYTES,) * 2)
    options = (
        f"-seed={seed} -timeout={target.hang_limit_s} -artifact_prefix={folder}/ -dict={folder}/dictionary "
        # check() measures memory more exactly than libFuzzer.
        f"-rss_limit_mb=0 -max_len={2 * max(map(len, target.seeds))} "
        # Most damage to a damaged file is refused at once: start from valid files, and damage each little.
        "-keep_seed=1 -reduce_inputs=0 -cross_over=0 -mutate_depth=2"
    )
    arguments = [sys.argv[0], *options.split(), str(folder / "corpus")]
    atheris.Setup(arguments, atheris.instrument_func(parse), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [name, folder, inputs, seed]:
            fuzz(name, Path(folder), inputs=int(inputs), seed=int(seed))
        case [name, file]:
            faulthandler.enable()
            print("accepted" if check(load_target(name), Path(file).read_bytes()) else "refused")
