"""Comparisons as web pages: the alignment, the dense scores, and nothing that runs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.host.errors import AppError, DocumentError
from app.sharing import export, thing_in_link
from sol_core.errors import SolError
from storage import NotFoundError, Store
from tests.app.command_line import RunCommand, one_line
from tests.app.sharing.test_run_documents import HOSTILE, save_run
from tests.support.comparison_samples import save_pair
from tests.support.exported_page import data_of
from tests.support.inspection_samples import save_inspection

FIRST = (" the", " sea", " was", " calm", " and", " the", " sky")
SECOND = (" the", " sea", " roared", " and", " the", " sky", " blue")


def page(store: Store, pair: str, score: Any = None) -> str:
    return export(store, "comparison", pair, "html", score).text


def test_the_page_says_where_they_part_and_what_the_dense_row_measured(store: Store) -> None:
    shown = data_of(page(store, save_pair(store, FIRST, SECOND)))
    assert shown["compared"]["same_prompt"]
    assert shown["compared"]["parted"] == 2
    assert shown["compared"]["stretches"] == [
        [True, 0, 2, 0, 2],
        [False, 2, 4, 2, 3],
        [True, 4, 7, 3, 6],
        [False, 7, 7, 6, 7],
    ]
    for view, side in zip(shown["views"], shown["compared"]["sides"], strict=True):
        assert side["nll"] == [row["side"][0]["surprisal"] for row in view["rows"]]
    bare = data_of(page(store, save_pair(store, FIRST, SECOND, has_shadow=False)))
    assert [side["nll"] for side in bare["compared"]["sides"]] == [None, None]


def test_a_model_at_hand_scores_what_the_runs_did_not(store: Store) -> None:
    def scored(run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        return [[0.5] * len(FIRST), None]

    def busy(run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        raise SolError("busy")

    pair = save_pair(store, FIRST, SECOND, has_shadow=False)
    sides = data_of(page(store, pair, scored))["compared"]["sides"]
    assert sides[0] == {"nll": [0.5] * 7, "problem": None}
    assert sides[1]["problem"].startswith("no dense pass")
    assert page(store, pair, busy) == page(store, pair)


def test_hostile_text_does_not_run(store: Store) -> None:
    made = page(store, save_pair(store, HOSTILE, HOSTILE[::-1], ("".join(HOSTILE),) * 2))
    assert made.count("<script") == made.count("</script>") == 3
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", made.split('id="sol-data">')[0])


def test_html_of_two_times_500_tokens_is_small(store: Store) -> None:
    tokens = tuple(f" word{index}" for index in range(500))
    assert len(page(store, save_pair(store, tokens, tokens[::-1])).encode()) < 1_000_000


def test_only_two_ended_generations_make_a_comparison(store: Store, run: RunCommand) -> None:
    run_id = save_run(store)
    inspected = save_inspection(store, [" a"])
    going = store.runs.create("a" * 32, "p", "m", "static", {}).id
    for pair, said in (
        (f"{run_id},{inspected}", "is of the kind inspection"),
        (f"{going},{run_id}", "still going on"),
        (run_id, "two runs' ids with a comma"),
        (f"{run_id},", "two runs' ids with a comma"),
    ):
        with pytest.raises(AppError, match=said):
            page(store, pair)
    with pytest.raises(NotFoundError):
        page(store, f"{run_id},nobody")
    assert "no run" in one_line(run("export", f"{run_id},nobody", "-", "--format", "html"))


def test_the_command_line_takes_two_ids_or_a_link(
    store: Store, run: RunCommand, tmp_path: Any
) -> None:
    pair = save_pair(store, FIRST, SECOND)
    out = tmp_path / "pair.html"
    assert run("export", pair, str(out)).status == 0
    link = f"http://127.0.0.1:7860/?compare={pair.replace(',', '%2C')}"
    assert thing_in_link(link) == pair
    assert run("export", link, "-", "--format", "html").out.encode() == out.read_bytes()
    for form in ("json", "csv"):
        with pytest.raises(DocumentError, match=f"exported as {form}.* forms are html$"):
            export(store, "comparison", pair, form)


def test_a_saved_run_of_another_shape_is_told_in_a_sentence(store: Store) -> None:
    pair = save_pair(store, FIRST, SECOND)
    store.runs.append_events(pair.partition(",")[0], [{"type": "token", "index": 7}])
    with pytest.raises(AppError, match="This comparison is damaged and cannot be shown"):
        page(store, pair)
