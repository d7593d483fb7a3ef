"""Files of attempts that were made anywhere: their rows, their layouts, and the problems that their rows are about."""
