"""The scoreboard as a file, from the page and from the command line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from app.host.errors import DocumentError
from app.host.paths import DataDir
from app.sharing import export, import_document, kind_of
from sol_core.actions import AXIS_FIELDS, ActionGrid
from storage import NotFoundError, Store, open_store

TEXT = "=HYPERLINK(1) The keeper <b> ${7*7}"
ID = "0123456789abcdef0123"
LOW, HIGH = [0.5, 0.6, 8], [1.0, 1.0, 16]


def score(actions: list[list[float]], kl: float) -> dict[str, Any]:
    return {"actions": actions, "kl": [kl, kl], "nll": [3.0, 4.0]}


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path)
    made.prepare()
    return made


@pytest.fixture
def store(data_dir: DataDir) -> Iterator[Store]:
    """A challenge of two tokens and three attempts at it, the middle one first in time."""
    record = {
        **{"text": TEXT, "model": "tiny", "dtype": "float32", "policy": "mine", "steps": 2},
        **{"num_random": 10, "grid": ActionGrid().to_dict(), "asked": LOW},
        "scores": {
            "dense": score([HIGH, HIGH], 0.0),
            "policy": score([LOW, HIGH], 0.25),
            "static": score([LOW, LOW], 0.5),
            "random": score([HIGH, LOW], 0.75),
        },
    }
    with open_store(data_dir.database) as opened:
        opened.challenges.save(ID, record)
        for name, kl in (("@ben", 0.3), ("\u202eann <img>", 0.125), ("", 0.9)):
            opened.challenges.add_attempt(
                ID,
                name or "nobody",
                name=name,
                kl=kl,
                nll=3.5,
                schedule={"actions": [LOW, HIGH if kl < 0.5 else LOW]},
                record={"policy": {"kl": 0.25, "nll": 3.5}},
            )
        yield opened


def test_json_has_every_attempt_with_its_schedule_and_no_owner(store: Store) -> None:
    assert kind_of(store, ID) == "scoreboard"
    made = export(store, "scoreboard", ID, "json")
    assert made.name == "scoreboard-hyperlink-1-the-keeper-b-7-7.json"
    document = json.loads(made.text)
    assert (document["format"], document["version"]) == ("sol-explorer-scoreboard", 1)
    challenge, attempts = document["challenge"], document["attempts"]
    assert (challenge["id"], challenge["text"], challenge["steps"]) == (ID, TEXT, 2)
    assert challenge["budget"] == dict(zip(AXIS_FIELDS, LOW, strict=True))
    assert challenge["scores"]["policy"]["kl"] == 0.25
    assert challenge["scores"]["policy"]["keep_fraction"] == 0.75
    assert [one["name"] for one in attempts] == ["\u202eann <img>", "@ben", ""]
    assert [one["place"] for one in attempts] == [1, 2, 3]
    assert [one["beats_policy"] for one in attempts] == [True, False, False]
    assert attempts[0]["actions"] == [
        dict(zip(AXIS_FIELDS, one, strict=True)) for one in (LOW, HIGH)
    ]
    assert (attempts[0]["bit_width"], attempts[2]["bit_width"]) == (12, 8)
    assert "nobody" not in made.text


def test_csv_has_a_row_per_attempt_then_the_others(store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(export(store, "scoreboard", ID, "csv").text)))
    names = ["painted", "painted", "painted", "dense", "policy", "static", "random"]
    assert [row["schedule"] for row in rows] == names
    assert [row["name"] for row in rows[:3]] == ["\u202eann <img>", "'@ben", ""]
    assert [float(row["kl"]) for row in rows] == [0.125, 0.3, 0.9, 0.0, 0.25, 0.5, 0.75]
    assert [row["beats_policy"] for row in rows] == ["True", "False", "False", "", "", "", ""]
    assert float(rows[5]["channel_keep_ratio"]) == 0.6


def test_what_there_is_not_is_refused_in_words(store: Store) -> None:
    with pytest.raises(DocumentError, match="forms are json, csv"):
        export(store, "scoreboard", ID, "html")
    with pytest.raises(NotFoundError):
        export(store, "scoreboard", "0" * 20, "csv")
    data = export(store, "scoreboard", ID, "json").text.encode()
    with pytest.raises(DocumentError, match="a scoreboard is not imported"):
        import_document(store, "a" * 32, data)


@pytest.mark.parametrize("thing", [ID, f"http://127.0.0.1:7860/?challenge={ID}&paint=00a"])
def test_the_command_takes_its_id_or_its_link(
    store: Store, data_dir: DataDir, tmp_path: Path, thing: str
) -> None:
    out = tmp_path / "board.csv"
    assert main(["export", thing, str(out), "--data-dir", str(data_dir.root)]) == 0
    assert out.read_text(encoding="utf-8") == export(store, "scoreboard", ID, "csv").text.replace(
        "\r\n", "\n"
    )
