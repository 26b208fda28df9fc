"""The adapter for lm-eval, on a tiny model; skipped where that extra is not installed."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from sol_core.actions import Budget
from sol_core.files.paths import DATA_DIR_VARIABLE, default_data_dir
from tests.support.tiny_language_model import CONTEXT_LENGTH, make_language_model, save_model_folder
from tests.support.tiny_policies import save_tiny_policy

TEXT = "Once upon a time there was a fox"


def test_the_data_directory_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.setenv(DATA_DIR_VARIABLE, " ")
    assert default_data_dir().name == "sol-explorer"


@pytest.fixture
def make(monkeypatch):
    pytest.importorskip("lm_eval")
    from sol_core import lm_eval_model

    monkeypatch.setattr(
        lm_eval_model, "load_language_model", lambda name, **options: make_language_model()
    )
    return lm_eval_model.SolLM


def _requests(*arguments):
    return [SimpleNamespace(args=one) for one in arguments]


def test_static_with_everything_kept_scores_as_dense_and_a_budget_does_not(make):
    pairs = _requests((TEXT[:20], TEXT[20:]), (TEXT[:8], TEXT[8:12]))
    assert make().schedule.kind == "dense"
    dense = make().loglikelihood(pairs, disable_tqdm=True)
    kept = make(schedule="static").loglikelihood(pairs, disable_tqdm=True)
    for (mine, greedy), (theirs, same) in zip(kept, dense, strict=True):
        assert mine == pytest.approx(theirs, abs=2e-4)
        assert greedy == same
    small = make(keep="0.3", channels="0.5", bits="6")
    assert small.schedule.budget == Budget(0.3, 0.5, 6.0)
    assert small.mean_spend is None
    assert small.loglikelihood(pairs, disable_tqdm=True) != dense
    assert small.num_tokens == len(TEXT) - 20 + 4
    info = small.get_model_info()
    assert info["schedule"] == "static"
    assert info["mean_spend"]["bit_width"] == pytest.approx(6.0)
    assert 0 < info["mean_spend"]["bytes_share"] < 1


def test_a_run_of_lm_eval_prints_the_mean_spend(make, monkeypatch, capsys, tmp_path):
    from sol_core import lm_eval_model

    policy = save_tiny_policy(make_language_model(), tmp_path / "tiny")

    def run():
        lm = make(policy=str(policy), keep="0.5", channels="0.7", bits="8")
        lm.loglikelihood(_requests((TEXT[:20], TEXT[20:])), disable_tqdm=True)
        lm.generate_until(_requests((TEXT, {"until": ["\x00never"], "max_gen_toks": 4})))
        lm.get_model_info()  # as lm-eval does at the end

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", run)
    lm_eval_model.main()
    torch.set_grad_enabled(True)
    said = capsys.readouterr().out
    assert said.startswith(f"mean spend over {len(TEXT) - 20 + 4} tokens (policy): ")
    assert " % attention · " in said
    assert " % of the bytes; " in said
    assert "static at this spend: keep=0." in said


@pytest.mark.timeout(900)  # kernels are compiled first
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what --model hf imports
@pytest.mark.parametrize(("name", "starts"), [("llama-gqa-tied", False), ("gemma3", True)])
def test_dense_is_what_model_hf_is(tmp_path, name, starts):
    """Texts that fit, texts that are longer than the context, and prompts that are."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from sol_core.lm_eval_model import SolLM

    folder = str(save_model_folder(tmp_path / "model", name, starts=starts))
    mine = SolLM(pretrained=folder, dtype="float32", device="cpu", batch_size=3)
    theirs = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=3)

    def both(kind, arguments):
        asked = [Instance(kind, {}, one, n) for n, one in enumerate(arguments)]
        found = [getattr(lm, kind)(asked, disable_tqdm=True) for lm in (mine, theirs)]
        return found[0], found[1]

    if starts:  # a prompt that has its beginning already gets no second
        assert mine.tok_encode("<|end|>" + TEXT) == mine.tok_encode(TEXT)
        assert mine.tok_encode(TEXT)[0] == mine.prefix_token_id != mine.tok_encode(TEXT)[1]
    long = " ".join(f"{n} foxes" for n in range(CONTEXT_LENGTH // 8))
    assert len(mine.tok_encode(long)) > CONTEXT_LENGTH
    # Never the same tokens parted in two ways: lm-eval's own cache takes those for one request.
    pairs = [(TEXT[:20], TEXT[20:]), ("", "An owl."), (long, " ran."), (long[:99], "hid")]
    for (likelihood, greedy), (other, same) in zip(*both("loglikelihood", pairs), strict=True):
        assert likelihood == pytest.approx(other, abs=5e-4)
        assert greedy == same
    texts = [(TEXT,), (long,), (long * 2,), ("a",)]
    found, expected = both("loglikelihood_rolling", texts)
    assert found == pytest.approx(expected, abs=2e-3)
    options = {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}
    prompts = [(TEXT, options), (long, options), (TEXT[:9], options | {"until": []})]
    found, expected = both("generate_until", prompts)
    assert found == expected


@pytest.mark.parametrize("kind", ["dense", "static", "random", "policy"])
def test_a_batch_is_its_requests_alone(make, tmp_path, kind):
    """Requests of any length and options side by side; letters after one question too."""
    options = {"schedule": kind}
    if kind != "dense":  # with fewer bits, a sum's last digit decides now and then how one rounds
        options |= {"keep": 0.5, "channels": 0.7, "bits": 16}
    if kind == "policy":
        options["policy"] = str(save_tiny_policy(make_language_model(), tmp_path / "tiny"))
    pairs = [(TEXT[:n], TEXT[n : n + 1 + n % 5]) for n in range(2, 26, 3)]
    pairs += [(TEXT, letter) for letter in "ABCD"]
    texts = [(TEXT,), (TEXT * 3,), ("a",), (TEXT[:5],)]
    plain = {"until": [], "max_gen_toks": 20}
    prompts = [(TEXT[:n], plain) for n in (1, 1, 4, 30, 12)]
    prompts += [(TEXT, plain | {"max_gen_toks": 5}), ("x", plain | {"max_gen_toks": 5})]
    prompts += [(TEXT[:9], plain | {"do_sample": True, "temperature": 1.5})]
    found = []
    for size in (64, 1):
        lm = make(batch_size=size, **options)
        scores = lm.loglikelihood(_requests(*pairs), disable_tqdm=True)
        totals = lm.loglikelihood_rolling(_requests(*texts), disable_tqdm=True)
        written = lm.generate_until(_requests(*prompts), disable_tqdm=True)
        # What ends early waits for the others, and costs nothing more.
        ended = written[3][-2:]
        again = lm.generate_until(
            _requests((TEXT[:30], plain | {"until": [ended]}), prompts[4]), disable_tqdm=True
        )
        assert again == [written[3][: written[3].index(ended)], written[4]]
        found.append((scores, totals, written, lm.num_tokens, lm.mean_spend))
    (scores, totals, written, count, spend), (alone, apart, by_one, same, paid) = found
    for (mine, greedy), (theirs, other) in zip(scores, alone, strict=True):
        assert mine == pytest.approx(theirs, abs=2e-4)
        assert greedy == other
    assert totals == pytest.approx(apart, abs=1e-3)
    assert written == by_one
    assert count == same
    assert spend.as_tuple() == pytest.approx(paid.as_tuple())


def test_equal_texts_are_read_once(make, monkeypatch):
    from sol_core import lm_eval_model

    lm = make()
    read = Mock(wraps=lm.model.lm.prefill)
    monkeypatch.setattr(lm.model.lm, "prefill", read)
    lm.loglikelihood(_requests(*((TEXT, letter) for letter in "ABCD")), disable_tqdm=True)
    (only,) = read.call_args_list
    assert only.args[0].shape == (1, len(TEXT)), "four letters after one question are one row"
    read.reset_mock()
    monkeypatch.setattr(lm_eval_model, "BATCH_TOKENS", 64)
    pairs = [(TEXT[:n], "!") for n in range(2, 30)] + [(TEXT * 4, "!")]
    lm.loglikelihood(_requests(*pairs), disable_tqdm=True)
    rows = [tuple(call.args[0].shape) for call in read.call_args_list]
    assert sum(count for count, _ in rows) == len(pairs)
    assert all(count * (length + 1) <= 64 or count == 1 for count, length in rows)
    assert len(rows) < len(pairs)
