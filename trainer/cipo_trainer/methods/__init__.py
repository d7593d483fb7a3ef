"""The methods that CIPO is compared with: what each does after a step's base batch.

A method gets the base batch and gives back what the step trains on; a file each, whose opening says what the paper does
and what is left out. They generate and judge through ``Step`` alone. docs/baselines.md has them side by side.
"""
