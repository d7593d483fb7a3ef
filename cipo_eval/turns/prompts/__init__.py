"""Templates of what a model is told about an attempt; ``protocols`` fills them in."""
