"""Continuous batching for transformers models: requests, cache, sampler and the loop that ties them together.

Start with ``loop``.
"""
