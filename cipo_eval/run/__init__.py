"""A run: what is asked for, the directory that holds it, and the loop that generates, judges and keeps attempts."""
