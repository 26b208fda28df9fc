"""A stand-in for a trained policy, and a naive scorer to check the evaluation against."""

from pathlib import Path
from unittest.mock import patch

import torch

import sol_core.accuracy.runner as tasks
import sol_core.evaluation.runner as evaluation
from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.decoding.batch_scheduling import UNKNOWN_READS
from sol_core.decoding.prefix import read_prefix
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.texts import EvaluationTexts
from sol_core.models.signals import Observe
from sol_core.progress import no_stop

GRID = ActionGrid(
    page_size=4, page_scorer="int4", page_choice="group", page_budget="need"
)  # that kernels serve


class TokenPolicy:
    """Spends by the fed token's number, so that anyone can repeat its decisions."""

    def __init__(self, shift=0):
        self.shift = shift
        self.calls = []
        self.saw_signals = []

    def scheduler(self, budgets, contexts):
        self.calls.append(len(budgets))
        return _TokenScheduler(self, budgets)

    def action(self, budget, token):
        """One level up or down from the budget's."""
        up = (token + self.shift) % 3 - 1
        keeps, ratios, bits = GRID.levels()
        return Action(
            _moved(keeps, budget.keep_fraction, up),
            _moved(ratios, budget.channel_keep_ratio, -up),
            round(_moved(bits, budget.bit_width, up)),
        )


class _TokenScheduler:
    observes = Observe.CONCENTRATION

    def __init__(self, policy, budgets):
        self._policy, self._budgets = policy, budgets

    def next_actions(self, observation):
        signals = (
            observation.hidden,
            observation.mid_hidden,
            observation.concentration,
            observation.entropy,
            observation.surprisal,
        )
        self._policy.saw_signals.append(all(signal is not None for signal in signals))
        return [
            self._policy.action(budget, token)
            for budget, token in zip(self._budgets, observation.tokens.tolist(), strict=True)
        ]

    def reads(self):
        return [UNKNOWN_READS] * len(self._budgets)


def contender(name="mine", shift=0, grid=GRID, episode_steps=16):
    policy = TokenPolicy(shift)
    return Contender(name, policy.scheduler, grid, episode_steps, ""), policy


def random_texts(count, block_len, vocab_size=257, seed=0):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(vocab_size, (count, block_len), generator=generator)
    return EvaluationTexts("random bytes", "f" * 64, False, blocks.tolist())


def evaluate_contenders(model, contenders, config, texts, should_stop=no_stop, partial=None):
    """``evaluate`` with stand-ins for policies and texts; its first report is left out."""
    with patch.object(evaluation, "load_contenders", lambda *_, **__: list(contenders)):
        events = evaluation.evaluate(
            model, {}, config, data_dir=Path(), should_stop=should_stop, partial=partial
        )
    return _patched(events, evaluation, load_texts=lambda *_, **__: texts)


def run_questions(model, rival, config, questions, should_stop=no_stop, partial=None):
    """``run_tasks`` with stand-ins for policy and questions; its first report is left out."""
    with patch.object(tasks, "load_contenders", lambda *_, **__: [rival]):
        events = tasks.run_tasks(
            model, rival.name, Path(), config, data_dir=Path(), should_stop=should_stop,
            partial=partial,
        )  # fmt: skip
    given = {"ensure_evaluation_wheel": lambda *_: Path(), "_questions": lambda *_: questions}
    return _patched(events, tasks, **given)


def _patched(events, module, **given):
    with patch.multiple(module, **given):
        next(events)
        yield from events


def score_alone(lm, block, context, actions):
    """NLL and KL(dense ‖ schedule) of each step, one row at a time and nothing shared."""
    dense = _log_probabilities(lm, block, context, [DENSE] * len(actions))
    compressed = _log_probabilities(lm, block, context, actions)
    targets = torch.tensor(block[context + 1 : context + 1 + len(actions)])
    nll = -compressed.gather(-1, targets[:, None])[:, 0]
    kl = (dense.exp() * (dense - compressed)).sum(-1)
    return nll.tolist(), kl.tolist()


def _log_probabilities(lm, block, context, actions):
    prefix = read_prefix(lm, block[:context], GRID.page_size).cache
    cache, rows = prefix.branch(1, len(actions)), []
    for step, action in enumerate(actions):
        fed = torch.tensor([block[context + step]])
        logits = lm.decode_step(fed, cache, action, mechanisms=GRID.mechanisms).logits
        rows.append(torch.log_softmax(logits[0].double(), -1))
    return torch.stack(rows)


def _moved(levels, target, by):
    nearest = min(range(len(levels)), key=lambda index: abs(levels[index] - target))
    return float(levels[min(max(nearest + by, 0), len(levels) - 1)])
