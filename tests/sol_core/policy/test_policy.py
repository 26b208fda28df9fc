"""Policies: networks step by step, prices, folders, and refusal of what does not fit."""

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import GRIDS, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.errors import ConfigError, PolicyError
from sol_core.policy.info import InputLayout, PolicyConfig, read_policy_info
from sol_core.policy.network import JointNetwork, build_network, level_values
from sol_core.policy.policy import load_policy, save_policy
from sol_core.policy.prices import PriceRule, PriceTable, choose_levels
from sol_core.policy.scheduler import PolicyScheduler
from sol_core.policy.step import rows_in_float16
from sol_core.training.config import preset
from tests.support.tiny_policies import COARSE, change_config, make_policy


@pytest.mark.parametrize("kind", ["factored", "joint"])
def test_step_by_step_equals_the_whole_sequence(model, kind):
    policy = make_policy(model, PolicyConfig(network=kind, width=16, num_heads=2))
    width = policy.info.layout.width
    rows, budget = torch.randn(3, 7, width), torch.randn(3, 7, 8)
    embedding = torch.randn(3, 7, model.spec.hidden_size)
    given = (rows, embedding, budget) if kind == "joint" else (rows, embedding)
    cache, parts = None, []
    for step in range(7):
        out, *_, cache = policy.network(*(part[:, step : step + 1] for part in given), cache)
        parts.append(out if kind == "joint" else torch.cat(out, -1))
    whole = policy.network(*given)[0]
    whole = whole if kind == "joint" else torch.cat(whole, -1)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


def test_the_joint_network_is_the_papers(model):
    """Width 512, MLP ×4, learned positions, and the paper's observation alone."""
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers)
    config = preset("paper").policy
    network = build_network(layout, GRIDS["paper"], config, 16)
    assert isinstance(network, JointNetwork)
    encoder, size = network.encoder, layout.hidden_size
    assert encoder.project.weight.shape == (512, 2 * size + 3 + 8)
    assert encoder.mlp_in.weight.shape == (4 * 512, 512)
    assert (network.head.out_features, network.budget[0].out_features) == (1560, 32)
    torch.nn.init.normal_(network.head.weight)
    rows, embedding = torch.randn(1, 4, layout.width), torch.randn(1, 4, size)
    budget = torch.zeros(1, 4, 8)
    unseen, seen = rows.clone(), rows.clone()
    unseen[..., size:-3] += 1  # middle states, concentration, entropy, surprisal, length
    seen[..., -3:] += 1
    first, second, third = (network(one, embedding, budget)[0] for one in (rows, unseen, seen))
    assert torch.equal(first, second)
    assert not torch.allclose(first, third)
    alike = network(rows[:, :1].expand_as(rows), embedding[:, :1].expand_as(embedding), budget)[0]
    assert not torch.allclose(alike[:, 0], alike[:, 1]), "places differ"


@pytest.mark.parametrize("size", [1.0, 3e4, 7e4, 1e9])
def test_states_beyond_fp16_are_kept_as_the_network_sees_them(model, size):
    torch.manual_seed(3)
    layout = InputLayout(model.spec.hidden_size, model.spec.num_layers)
    encoder = make_policy(model).network.encoder
    rows = torch.randn(2, 5, layout.width)
    states = rows[..., : 3 * layout.hidden_size].unflatten(-1, (3, -1))
    states[:, :, 1] *= size / states[:, :, 1].abs().amax(-1, keepdim=True)
    kept = rows_in_float16(rows, layout)
    assert kept.dtype == torch.float16
    assert kept.isfinite().all()
    embedding = torch.randn(2, 5, layout.hidden_size)
    torch.testing.assert_close(
        encoder(kept, embedding)[0], encoder(rows, embedding)[0], atol=5e-3, rtol=1e-2
    )
    if size < 6e4:
        assert (kept == rows.half())[..., layout.hidden_size * 2 :].all()


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.floats(0.3, 0.95))
def test_a_price_meets_its_budget_and_a_higher_one_buys_less(seed, aim):
    generator = torch.Generator().manual_seed(seed)
    levels = level_values(ActionGrid())[0]
    slope = 3 + 4 * torch.rand(2000, 1, generator=generator)
    damages = (torch.randn(2000, 1, generator=generator) - slope * levels).exp()
    table = PriceTable.measure(damages, levels)
    assert all(a >= b for a, b in zip(table.spends, table.spends[1:], strict=False))
    price = float(PriceRule([levels], [table]).price(torch.tensor([aim])))
    assert levels[choose_levels(damages, levels, price)].mean() == pytest.approx(aim, abs=0.01)


def test_the_price_rule_is_the_least_damage_for_its_spend():
    generator = torch.Generator().manual_seed(1)
    levels = torch.tensor([0.25, 0.5, 1.0])
    damages = (torch.randn(5, 1, generator=generator) * 2 - 4 * levels).exp()
    chosen = choose_levels(damages, levels, 0.05)
    spent = float(levels[chosen].sum())
    paid = float(damages.gather(-1, chosen[:, None]).sum())
    every = torch.cartesian_prod(*[torch.arange(3)] * 5)
    sums = levels[every].sum(1)
    costs = damages[torch.arange(5), every].sum(1)
    assert paid <= float(costs[sums <= spent + 1e-6].min()) + 1e-6


def observe(model, rows, step):
    generator = torch.Generator().manual_seed(step)
    size, layers = model.spec.hidden_size, model.spec.num_layers
    return StepObservation(
        step,
        torch.randint(0, 200, (rows,), generator=generator),
        (20 + step,) * rows,
        torch.randn(rows, size, generator=generator),
        torch.randn(rows, 2, size, generator=generator),
        torch.rand(rows, layers, generator=generator),
        torch.rand(rows, generator=generator),
        torch.rand(rows, generator=generator),
    )


def test_the_mean_spend_is_steered_to_the_budget(model):
    policy = make_policy(model)
    budgets = [Budget(0.5, 0.7, 9), Budget(0.25, 0.5, 6), Budget(1, 1, 16)]
    scheduler = PolicyScheduler(policy, budgets)
    spends = torch.zeros(3, 3)
    for step in range(3000):
        actions = scheduler.next_actions(observe(model, 3, step))
        spends += torch.tensor([action.as_tuple() for action in actions])
    wanted = torch.tensor([budget.as_tuple() for budget in budgets])
    gap = (spends / 3000 - wanted).abs() / torch.tensor([1, 1, 16])
    assert gap.max() < 0.02


def test_greedy_takes_the_most_probable_level_and_sampling_depends_on_the_seed(model):
    policy = make_policy(model)
    budgets = [Budget(0.5, 0.7, 9)] * 4
    greedy = PolicyScheduler(policy, budgets)
    greedy.next_actions(observe(model, 4, 0))
    for row, axes in enumerate(greedy.distributions()):
        for axis, probabilities in enumerate(axes):
            assert sum(probabilities) == pytest.approx(1, abs=1e-5)
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            assert best == int(greedy.steps[-1].choices[row, axis])

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        scheduler = PolicyScheduler(policy, budgets, generator=generator)
        return [list(scheduler.next_actions(observe(model, 4, step))) for step in range(8)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    with pytest.raises(ConfigError, match=r"attention kept = 0.1 is outside"):
        PolicyScheduler(policy, [Budget(0.1, 0.6, 8)])


@pytest.mark.parametrize("kind", ["factored", "joint"])
def test_a_saved_policy_chooses_as_before(model, tmp_path, kind):
    policy = make_policy(model, PolicyConfig(network=kind, width=16, num_heads=2))
    policy.network.half().float()  # what the folder keeps
    save_policy(policy, tmp_path / "p")
    again = load_policy(tmp_path / "p", model, grid=COARSE)
    assert again.info == policy.info == read_policy_info(tmp_path / "p")
    assert "tiny" in (tmp_path / "p" / "README.md").read_text("utf-8")
    budgets = [Budget(0.5, 0.7, 9)] * 2
    first, second = PolicyScheduler(policy, budgets), PolicyScheduler(again, budgets)
    for step in range(6):
        seen = observe(model, 2, step)
        assert first.next_actions(seen) == second.next_actions(seen)


def test_a_file_cut_at_any_byte_is_refused(model, tmp_path):
    save_policy(make_policy(model), tmp_path / "p")
    for name in ("config.json", "model.safetensors"):
        whole = (tmp_path / "p" / name).read_bytes()
        for length in {0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 3}:
            (tmp_path / "p" / name).write_bytes(whole[:length])
            with pytest.raises(PolicyError, match=name.replace(".", r"\.")):
                load_policy(tmp_path / "p", model)
        (tmp_path / "p" / name).write_bytes(whole)
    load_policy(tmp_path / "p", model)


def edited(folder, **changes):
    copy = shutil.copytree(folder, folder.parent / "edited", dirs_exist_ok=True)
    change_config(copy, **changes)
    return copy


def test_what_was_made_for_something_else_is_refused(model, tmp_path):
    folder = tmp_path / "p"
    save_policy(make_policy(model), folder)
    changes = {
        "not for this model": {"fingerprint": "1" * 32},
        "schema 3": {"schema": 3},
        "config has an unknown field 'evil'": {"config": {"evil": 1}},
        "price": {"prices": []},
        "does not fit": {"config": {"width": 32, "num_heads": 2}},
    }
    for words, change in changes.items():
        with pytest.raises(PolicyError, match=words):
            load_policy(edited(folder, **change), model)
    with pytest.raises(PolicyError, match="another grid"):
        load_policy(folder, model, grid=ActionGrid(quant_site="mlp_input"))
    with pytest.raises(PolicyError, match="not a policy folder"):
        load_policy(tmp_path, model)
    policy = make_policy(model)
    with torch.no_grad():
        next(policy.network.parameters()).view(-1)[0] = torch.nan
    save_policy(policy, folder)
    with pytest.raises(PolicyError, match="not finite"):
        load_policy(folder, model)


def test_a_full_disk_leaves_the_old_policy(model, tmp_path, monkeypatch):
    for seed in (0, 1):  # saving again replaces the folder
        save_policy(make_policy(model, seed=seed), tmp_path / "p")
    before = (tmp_path / "p" / "model.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_policy(make_policy(model, seed=2), tmp_path / "p")
    assert (tmp_path / "p" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_choice_tells_its_probability_when_asked(model):
    policy = make_policy(model)
    generator = torch.Generator().manual_seed(0)
    scheduler = PolicyScheduler(
        policy, [Budget(0.5, 0.7, 9)] * 5, generator=generator, temperature=2.0, keep_steps=True
    )
    for step in range(3):
        scheduler.next_actions(observe(model, 5, step))
    whole = policy.split_by_head(policy.logits(scheduler.inputs())[0])
    for step, choice in enumerate(scheduler.steps):
        expected = torch.zeros(5)
        for head, logits in enumerate(whole):
            log_probabilities = torch.log_softmax(logits[:, step] / 2.0, -1)
            expected += log_probabilities.gather(-1, choice.choices[:, head, None])[:, 0]
        assert torch.allclose(choice.log_probability, expected, rtol=1e-4, atol=1e-4)
