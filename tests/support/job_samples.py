"""Jobs as a worker would write them, without a worker: reports, samples, an evaluation's result."""

import json
import math
from types import SimpleNamespace

from sol_core.actions import ActionGrid, Budget
from sol_core.evaluation.config import REFERENCE_BUDGETS, EvaluationConfig
from sol_core.training.config import PRESETS

TEXT = "The keeper of the light house had not spoken to any one for forty days ."
RANDOM_SCHEDULES = 12
OWNER = "c" * 32


def metric_row(step, total=40):
    """Report number ``step`` of a training that goes well."""
    done = step / total
    wave = math.sin(step * 1.7)
    metrics = {"loss": 0.9 - 0.5 * done + 0.03 * wave, "decisions_per_s": 410 + 30 * wave}
    phase = "warm start" if done < 0.4 else "grpo"
    if phase == "grpo":
        metrics |= {
            "reward": -0.21 + 0.08 * done + 0.01 * wave,
            "entropy": 1.6 - 0.7 * done,
            "clip_fraction": 0.06 + 0.03 * wave,
        }
    if step % 4 == 0:
        metrics |= {
            "kl": 0.19 - 0.06 * done + 0.002 * wave,
            "kl_static": 0.17,
            "nll": 3.34 - 0.05 * done,
            "nll_static": 3.325,
            "nll_dense": 3.18,
            "gap_keep": 0.03 * math.cos(step / 5) * (1 - done),
            "gap_channels": -0.02 * math.sin(step / 4),
            "gap_bits": 0.012 * wave,
        }
    return {"step": step, "phase": phase, "elapsed_s": 14.0 * step, "metrics": metrics}


def train_sample(step, words=None):
    """A held-out text of ``step``; tokens as the trainer gives them."""
    tokens = []
    for index, word in enumerate((words or TEXT.split()) * 2):
        hard = 0.5 + 0.5 * math.sin(index * 1.3 + step)
        action = [
            round(0.2 + 0.8 * hard, 1),
            round(0.4 + 0.6 * hard * hard, 2),
            5 + round(11 * hard),
        ]
        text = word if words else " " + word
        tokens.append({"text": text, "action": action, "kl": 0.4 * (1 - hard) ** 2})
    context = "It was the winter of the great storms, and the lamp was lit at four. " * 4
    return {"step": step, "context": context, "budget": [0.5, 0.6, 8.0], "tokens": tokens}


def evaluation_result(policies=("default",), texts=128):
    """A result of schema 1 in which the policy wins everywhere but at the easiest budget."""
    budgets = [_budget(budget, policies) for budget in REFERENCE_BUDGETS]
    return {
        "schema": 1, "policies": list(policies), "policy": policies[0],
        "model": "smollm2-135m-instruct", "fingerprint": "0" * 16, "corpus": "builtin",
        "texts": texts, "context": 256, "steps": 16, "scored_tokens": texts * 16, "seed": 0,
        "elapsed_s": 512.0, "budgets": budgets,
    }  # fmt: skip


def _budget(budget, policies):
    dense = 3.18
    spend = dict(zip(("keep", "channels", "bits"), budget.as_tuple(), strict=True))
    loss = 0.55 * (1 - budget.keep_fraction) ** 2 + 0.7 * (1 - budget.channel_keep_ratio) ** 2
    loss += 0.25 if budget.bit_width < 7 else 0.0
    share = {"static": 1.0, "policy": 0.8 if loss > 0.2 else 1.03, "random_best": 0.95}
    share |= {"emc": 1.1, "dac": 1.2}
    share |= {f"policy:{name}": 0.9 for name in policies[1:]}
    methods = {
        name: _method(dense + loss * part, loss * part, spend) for name, part in share.items()
    }
    methods["dense"] = _method(dense, 0.0, {"keep": 1.0, "channels": 1.0, "bits": 16.0})
    random = [loss * (1.05 + 0.05 * (index % 7)) for index in range(RANDOM_SCHEDULES)]
    return {
        "requested": spend,
        "methods": methods,
        "paired": {name: _paired(methods, name) for name in methods if name != "policy"},
        "recovered": {"nll": 1 - share["policy"], "kl": 1 - share["policy"]},
        "random": {"nll": [dense + value for value in random], "kl": random},
        "adherence": {
            "gap": {"keep": 0.004, "channels": -0.003, "bits": 0.002},
            "episode": {"keep": 0.012, "channels": 0.009, "bits": 0.006},
        },
    }


def _method(nll, kl, spend):
    rate = (spend["keep"] + spend["channels"] + spend["bits"] / 16) / 3
    perplexity = math.exp(nll)
    return {"nll": nll, "kl": kl, "perplexity": perplexity, "net_keep_rate": rate, "spend": spend}


def _paired(methods, name):
    gain = methods[name]["nll"] - methods["policy"]["nll"]
    kl_gain = methods[name]["kl"] - methods["policy"]["kl"]
    return {
        "gain": gain, "low": gain - 0.02, "high": gain + 0.02, "kl_gain": kl_gain,
        "kl_low": kl_gain - 0.008, "kl_high": kl_gain + 0.008,
    }  # fmt: skip


def finished_job(store, kind, params, result, title="mine", owner=OWNER):
    """The id of a job that a worker did."""
    job = store.jobs.create(kind, owner, title, params, worker="w")
    store.jobs.finish(job.id, "w", "succeeded", result)
    return job.id


def finished_evaluation(store, result=None, title="mine"):
    """The id of an evaluation with this result or the usual one."""
    config = EvaluationConfig(budgets=(Budget(0.3, 0.5, 7.0), Budget(0.5, 0.6, 8.0)))
    params = {"config": config.to_dict(), "policies": ["mine"], "model": "fake-model"}
    return finished_job(store, "evaluate", params, result or evaluation_result(("mine",)), title)


def running_training(store, name="mine", reports=20, **params):
    """The id of a training that a worker is at, with reports and two samples."""
    about = {"config": PRESETS["quick"].to_dict(), "model": "fake-model", "name": name}
    job = store.jobs.create("train", OWNER, name, about | params, worker="w")
    store.jobs.append_metrics(job.id, [metric_row(step) for step in range(reports)])
    store.jobs.set_sample(job.id, train_sample(4))
    store.jobs.set_sample(job.id, train_sample(8))
    store.jobs.heartbeat(job.id, "w", reports / 40, "grpo", 300.0)
    return job.id


def store_policy(policies, name):
    """A policy's folder as far as ``read_stand_in`` needs one; it cannot be run."""
    folder = policies / name
    folder.mkdir(parents=True)
    info = {"name": name, "model": "fake-model", "created": "2026-01-02T03:04:05+00:00"}
    (folder / "config.json").write_text(json.dumps(info | {"num_parameters": 9}), "utf-8")


def read_stand_in(folder):
    """In place of ``read_policy_info``: what ``store_policy`` wrote."""
    saved = json.loads((folder / "config.json").read_text("utf-8"))
    network = SimpleNamespace(network="factored")
    others = {"fingerprint": "", "config": network, "grid": ActionGrid(), "summary": {}}
    return SimpleNamespace(**others | saved)
