"""From run directories to figures: which attempts count."""
