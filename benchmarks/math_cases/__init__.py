"""Cases of known verdict for graders of mathematics, made from the golds of real problems.

``golds`` finds the golds and ``reader`` reads them into the trees of ``tree``; ``oracle`` says what a tree is worth.
``forms``, ``styles`` and ``wrappings`` write the same value in other ways, ``changes`` and ``hedges`` say something
else; ``suite`` puts them together. Nothing here knows the grader under test.
"""
