"""Tables that belong to a model, and their measurement; ``floors`` has the default model's.

Lookups are where the tables are used, in ``sol_core/models``.
"""
