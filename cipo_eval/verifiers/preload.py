"""Imported once by the fork server of the verifier pool: workers then start with the mathematics already loaded."""

from cipo_eval.verifiers.math.verifier import warm_up

warm_up()
