"""Studies: families, seeds and arms from one file, trained, scored and compared."""
