"""Tables that belong to a model, and how they are measured; ``floors`` has the default model's.

Looking things up in them is where they are used, in ``sol_core/models``.
"""
