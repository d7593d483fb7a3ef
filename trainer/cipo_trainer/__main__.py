"""``python -m cipo_trainer PRESET key=value …``: what ``cipo-eval train`` does, without its other commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from cipo_eval import interrupts
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, CipoError, UsageError
from cipo_trainer.config import Config
from cipo_trainer.distributed.environment import ElsewhereError, launched, rank_here
from cipo_trainer.presets import presets, printed
from cipo_trainer.training import configured, lines, train


def main(arguments: Sequence[str]) -> int:
    """Trains as the arguments say; returns the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    if options.config is None:
        raise UsageError(f"name a configuration file or a preset: {', '.join(presets())}")
    config = configured(options.config, options.overrides, options.init_from)
    first = rank_here() == 0
    if options.print_config and first:
        print(printed(config), end="")
    if options.print_config:
        return 0
    if options.plan:
        return _plan(options, config)
    say = (lambda _: None) if options.quiet or options.json or not first else _say
    outcome = train(config, lines(config, say), say, resume=options.resume)
    if not first:
        return 0  # the first process says what came out
    if options.json:
        print(json.dumps(outcome.plain()))
    say(f"checkpoint: {outcome.checkpoint}   log: {config.output / 'log.jsonl'}")
    for failure in outcome.failures:
        _say(f"failed: {failure}")
    return outcome.exit_code


def _plan(options: argparse.Namespace, config: Config) -> int:
    """What ``cipo-eval train --plan`` says, for as many processes as the launcher starts."""
    from cipo_eval.cli import training_plan

    if rank_here():
        return 0
    ranks = int(os.environ["WORLD_SIZE"]) if launched() else 1
    figures = training_plan.plan(config, gpu=options.gpu, mean_tokens=options.mean_tokens, ranks=ranks)
    print(json.dumps(figures) if options.json else training_plan.written(options.config, figures).rstrip())
    return EXIT_OK if figures["fits"] else EXIT_FAILURES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cipo_trainer", description="Train a model: SFT, GRPO and its kin, CIPO."
    )
    parser.add_argument(
        "config", nargs="?", help="configuration file, or the name of a preset (grpo, cipo, …)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="over it: model=CKPT rollout.samples=16"
    )
    parser.add_argument("--init-from", help="start from this checkpoint, or the last one of this training")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on in an existing folder, or refuse it",
    )
    parser.add_argument("--print-config", action="store_true", help="print the whole configuration and stop")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="say what it takes of a GPU's memory, about how long a step is, and stop",
    )
    parser.add_argument("--gpu", default="H100", help="with --plan: the GPU, such as H100, A100 or L4")
    parser.add_argument("--mean-tokens", type=float, help="with --plan: how long attempts are, if you know")
    parser.add_argument("--json", action="store_true", help="print what came out as one line of JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="print failures only")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _exit() -> None:
    try:
        sys.exit(main(sys.argv[1:]))
    except CipoError as error:
        if rank_here() == 0 or not isinstance(error, ElsewhereError):
            where = f"process {rank_here()}: " if rank_here() else ""
            _say(f"cipo_trainer: error: {where}{error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):  # what matters of their warnings is our error
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    interrupts.run(_exit)
