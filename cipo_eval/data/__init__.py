"""Where problems come from: sources, task definitions, test sets, and files of attempts that were made elsewhere."""
