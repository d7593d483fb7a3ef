"""Synthetic problems: families that need no data, each with a dial, a tokenizer and a tiny model."""
