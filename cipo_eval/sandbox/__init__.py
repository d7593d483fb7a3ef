"""Runs programs that models wrote: the only place where foreign code is executed."""
