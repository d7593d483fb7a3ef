"""CUDA graphs of decoding steps: a step is hundreds of small kernels, and to start them takes longer than they do.

A graph holds every address and integer that its step was captured with, so its key is all that may change: how many
rows (rounded up) and how far their slots reach. Weights that are updated in place are seen; a cache that is resized is
not, and its owner clears the graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Decode = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""One decoding step: last tokens and their positions, shape (rows,) each, and the reach (how far into their slots
they attend) give the decoder's output, shape (rows, width)."""

EXACT_ROWS = 8
"""Up to so many rows, buckets are powers of two."""
BUCKETS_PER_OCTAVE = 4
"""Beyond, there are so many buckets between a power of two and the next one, so that few rows are added."""


@dataclass(slots=True, eq=False)
class _Captured:
    graph: Any
    last: torch.Tensor
    places: torch.Tensor
    output: torch.Tensor


class Graphs:
    """Graphs of decoding steps, each captured when it is first needed and replayed from then on."""

    def __init__(self) -> None:
        self._captured: dict[tuple[int, int], _Captured] = {}
        self._pool: Any = None

    def clear(self) -> None:
        """Drops all graphs: what they hold the addresses of is going to move."""
        self._captured.clear()
        self._pool = None

    def run(
        self, decode: Decode, last: torch.Tensor, places: torch.Tensor, reach: int, most: int
    ) -> torch.Tensor:
        """``decode``'s output. Rows are filled up to a bucket, at most ``most``: the slots of those that are added must
        be nobody's."""
        count = len(last)
        key = min(bucket(count), most), reach
        captured = self._captured.get(key) or self._capture(decode, key, last)
        captured.last[:count].copy_(last)
        captured.places[:count].copy_(places)
        captured.places[count:].zero_()
        captured.graph.replay()
        return captured.output[:count]

    def _capture(self, decode: Decode, key: tuple[int, int], like: torch.Tensor) -> _Captured:
        rows, reach = key
        last, places = like.new_zeros(rows), like.new_zeros(rows)
        # what is written at place 0 while capturing would spoil the slots' beginnings: the last place is spared instead
        places += reach - 1
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            decode(last, places, reach)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = decode(last, places, reach)
        self._pool = self._pool or graph.pool()
        self._captured[key] = _Captured(graph, last, places, output)
        return self._captured[key]


def bucket(rows: int) -> int:
    """The number of rows that a graph is captured for: a power of two, then a multiple of a quarter of one."""
    if rows <= EXACT_ROWS:
        return 1 << max(0, rows - 1).bit_length()
    octave = 1 << (rows.bit_length() - 1)
    step = max(EXACT_ROWS, octave // BUCKETS_PER_OCTAVE)
    return -(-rows // step) * step
