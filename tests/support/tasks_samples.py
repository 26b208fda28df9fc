"""The result of the tasks as the engine makes it, for the pages' tests."""

_ASKED = ((0.7, 0.8, 16.0), (0.5, 0.7, 12.8), (0.4, 0.6, 9.0))
_METHODS = {"policy": 1.0, "static": 0.0}  # in gains above static
_TASKS = (("arc_easy", 0.25, 0.55), ("piqa", 0.5, 0.68), ("mmlu", 0.25, 0.27))


def tasks_result(policy="default"):
    """A result of schema 4 in which the policy is ahead by more the harsher the budget is."""
    tasks = [_task(name, chance, dense) for name, chance, dense in _TASKS]
    return {
        "schema": 4,
        "policy": policy,
        "grid": "default",
        "model": "fake-model",
        "fingerprint": "0" * 16,
        "limit": 500,
        "seed": 0,
        "elapsed_s": 1800.0,
        "tasks": tasks,
        "pooled": [
            _scored(0.5, 1500) | {"tasks": [name for name, *_ in _TASKS]},
            _scored(0.6, 1000, 0.4) | {"tasks": ["arc_easy", "piqa"]},
        ],
    }


def _task(name, chance, dense):
    return _scored(dense, 500, chance) | {"task": name, "steps": 4000, "chance": chance}


def _scored(dense, questions, chance=0.3):
    budgets = []
    for at, asked in enumerate(_ASKED):
        lost, gain = (0.02, 0.07, 0.16)[at] * (dense - chance) * 3, (-0.002, 0.012, 0.034)[at]
        spend = (asked[0] + 0.01, asked[1] - 0.005, asked[2])
        budgets.append(
            {
                "requested": _axes(asked),
                "methods": {
                    name: _method(dense - lost + share * gain, spend)
                    for name, share in _METHODS.items()
                },
                **{f"{name}gain": gains for name, gains in _gains(gain).items()},
            }
        )
    return {"questions": questions, "dense": _method(dense, (1.0, 1.0, 16.0)), "budgets": budgets}


def _gains(gain):
    """In accuracy and in the answers' NLL."""
    widths = (("", 1, 0.02), ("nll_", 4, 0.03))
    return {
        name: {"mean": gain * by, "low": gain * by - width, "high": gain * by + width}
        for name, by, width in widths
    }


def _method(accuracy, spend):
    return {
        "accuracy": {"mean": accuracy, "low": accuracy - 0.04, "high": accuracy + 0.04},
        "answer_nll": 3.0 - accuracy,
        "bytes_per_token": 1e8 * (1 + spend[0] + spend[1]),
        "spend": _axes(spend),
        "net_keep_rate": (spend[0] + spend[1] + spend[2] / 16) / 3,
    }


def _axes(values):
    return dict(zip(("keep", "channels", "bits"), values, strict=True))
