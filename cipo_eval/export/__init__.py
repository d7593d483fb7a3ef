"""A run directory in the forms that other tools read: one module a format, and the table of them (``formats``)."""
