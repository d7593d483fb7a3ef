"""``/dev/stdin`` and its kin for programs that open their standard streams by name.

A sandbox has no /proc, which those names lead to, and gets none: instead, what opens a file in Python takes exactly
these names to mean a copy of the descriptor, which the program has anyway. Nothing else becomes reachable, whatever a
program does to the functions here. As with a pipe, the copy reads and writes where the descriptor is, and truncates
nothing.

Sent into the sandbox as text: standard library only.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")
DESCRIPTORS = {f"/dev/{name}": fd for fd, name in enumerate(_NAMES)} | {
    f"{folder}/{fd}": fd
    for folder in ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd")
    for fd in range(len(_NAMES))
}
"""The names, with the descriptor that each means."""


def descriptor(path: Any) -> int | None:
    """The descriptor that a path names; None for every other path, and for what is none."""
    if isinstance(path, int):
        return None
    try:
        return DESCRIPTORS.get(os.fsdecode(path))
    except (TypeError, ValueError):
        return None


def install() -> None:
    """Has ``open``, ``io.open``, ``os.open``, ``os.stat`` and ``os.access`` of this process know the names."""
    builtins.open = io.open = _Function(io.open, _open)
    os.open = _Function(os.open, _os_open)
    os.stat = _Function(os.stat, lambda _real, fd, *_arguments, **_more: os.fstat(fd))
    os.access = _Function(os.access, lambda _real, _fd, *_arguments, **_more: True)


class _Function:
    """A function of a path, with another one for standard streams. No method where a class holds it, like builtins."""

    def __init__(self, real: Callable[..., Any], of_stream: Callable[..., Any]) -> None:
        self._real, self._of_stream = real, of_stream
        self.__name__, self.__doc__ = real.__name__, real.__doc__

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        path = arguments[0] if arguments else more.get("file", more.get("path"))
        fd = descriptor(path)
        if fd is None:
            return self._real(*arguments, **more)
        return self._of_stream(self._real, fd, *arguments, **more)


def _open(real: Callable[..., Any], fd: int, *arguments: Any, **more: Any) -> Any:
    def opener(path: str, flags: int) -> int:
        return _copy(fd, path, flags)

    if len(arguments) < 8 and more.get("opener") is None:
        more["opener"] = opener
    return real(*arguments, **more)


def _os_open(_real: Callable[..., Any], fd: int, *arguments: Any, **more: Any) -> int:
    path = arguments[0] if arguments else more["path"]
    return _copy(fd, path, arguments[1] if len(arguments) > 1 else more["flags"])


def _copy(fd: int, path: Any, flags: int) -> int:
    if flags & os.O_EXCL and flags & os.O_CREAT:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    return os.dup(fd)
