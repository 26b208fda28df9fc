"""Tables that belong to a model and are measured with it: how it attends, before it is steered."""
