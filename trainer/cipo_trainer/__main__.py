"""``python -m cipo_trainer``: the same as ``cipo-eval train``."""

from __future__ import annotations

import sys

from cipo_eval.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
