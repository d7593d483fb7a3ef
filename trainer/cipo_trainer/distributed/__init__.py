"""A training in several processes: who they are (``world``), that they live (``beats``), who does what (``division``),
weights in parts (``sharding``), and how they are started (``launch``).

The rest of the trainer knows a ``World`` only. What it decides it decides on the whole batch, in every process the
same; what is expensive (generating, judging, passes through the model) each process does for its share.
"""
