"""Verifiers: the one judgement that evaluation and training share.

``get_verifier(name)`` gives the pure two-step verifier of a task; ``pool.VerifierPool`` runs its second step in worker
processes under a hard time limit.
"""

from __future__ import annotations

import importlib

from cipo_eval.errors import UsageError
from cipo_eval.records import Verifier

VERIFIERS = {
    "math": "cipo_eval.verifiers.math.verifier:MathVerifier",
    "choice": "cipo_eval.verifiers.choice:ChoiceVerifier",
    "code": "cipo_eval.verifiers.code.verifier:CodeVerifier",
    "countdown": "cipo_eval.verifiers.countdown:CountdownVerifier",
    "mixed": "cipo_eval.verifiers.mixed:MixedVerifier",
    "steps": "cipo_eval.verifiers.critique:StepVerifier",
}
"""Built-in verifiers by the name that task definitions use."""


def get_verifier(name: str) -> Verifier:
    """The verifier that a task definition names: a built-in one, or ``module:Class`` of the user's own.

    Imports it only now: verifiers are heavy. Raises ``UsageError`` where there is none.
    """
    module, _, cls = VERIFIERS.get(name, name).partition(":")
    if not cls:
        raise UsageError(
            f"unknown verifier {name}: known are {', '.join(VERIFIERS)}, or name your own as module:Class"
        )
    try:
        verifier: Verifier = getattr(importlib.import_module(module), cls)()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"verifier {name} cannot be imported: {error}") from error
    return verifier
