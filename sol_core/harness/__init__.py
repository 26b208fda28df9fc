"""Tasks of the package lm-eval, measured as the project's own (``sol_core.tasks``).

The adapter, which lm-eval's own command line uses too, is ``sol_core.lm_eval_model``. lm-eval is
optional: it is imported when one of its tasks is asked for.
"""
