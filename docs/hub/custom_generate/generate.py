"""transformers' generate under a compute schedule of SOL Explorer."""

from sol_core import sol_generate


def generate(model, **arguments):
    """Generate as ``model.generate`` does, with ``policy``, ``budget`` and ``grid`` beside it."""
    return model.generate(**arguments, custom_generate=sol_generate)
