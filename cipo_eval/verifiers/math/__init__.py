"""Final answers in mathematics: extraction, normal forms, comparison, and the reference's rules (``paper``)."""
