"""Every state of a folder in which a process that writes to it could be killed, found without killing it.

What a killed process leaves behind is what its folder held at that moment. So one undisturbed run shows them all:
before each call that writes, syncs, renames, removes or makes something the folder is copied, and once more with half
of what is being appended. States that are equal are kept once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CALLS = ("write", "fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "ftruncate")
"""Of ``os``; ``pathlib``, ``shutil`` and ``cipo_eval.files`` go through them."""


def digest(folder: Path) -> str:
    """Of the names and contents in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path.relative_to(folder)}\0".encode())
        if path.is_file():
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


@contextmanager
def fault_points(folder: Path, copies: Path) -> Iterator[list[Path]]:
    """While the block runs, copies of ``folder`` as a kill at each moment would leave it, in order: the list that is
    given fills. The folder as it is when the block ends is no fault point."""
    copies.mkdir(parents=True)
    states: list[Path] = []
    seen: set[str] = set()
    lock = threading.RLock()
    busy = threading.local()

    def keep(torn: tuple[Path, bytes] | None = None) -> None:
        state = copies / f"state-{len(states):03d}"
        if folder.exists():
            shutil.copytree(folder, state)
        else:
            state.mkdir()
        if torn is not None:
            with (state / torn[0].relative_to(folder)).open("ab") as file:
                file.write(torn[1])
        if (found := digest(state)) in seen:
            shutil.rmtree(state)
        else:
            seen.add(found)
            states.append(state)

    def hooked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if getattr(busy, "copying", False):
                return work(*arguments, **more)
            with lock:
                busy.copying = True
                try:
                    keep()
                    if name == "write":
                        file = Path(f"/proc/self/fd/{arguments[0]}").readlink()
                        if file.is_relative_to(folder):
                            keep((file, bytes(arguments[1][: len(arguments[1]) // 2])))
                finally:
                    busy.copying = False
            return work(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, hooked(name, getattr(os, name)))
        yield states
