"""Cases of known verdict for graders of mathematics, made from the golds of real problems.

``reader`` reads golds into the trees of ``tree``; ``oracle`` says what a tree is worth; ``rewrites`` writes the same value in
other ways, ``changes`` writes another value; ``suite`` puts them together, ``golds`` finds the golds. Nothing here knows
the grader under test.
"""
