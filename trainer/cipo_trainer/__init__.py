"""The trainer: from a checkpoint and a verifier to a better checkpoint; studies that compare trainings."""
