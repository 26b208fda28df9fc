"""What the pages' tests draw is what the product writes today."""

import json

from tests.web.record import FILE, records


def test_the_pages_are_tested_with_records_of_today(tmp_path):
    kept, made = json.loads(FILE.read_text("utf-8")), records(tmp_path)
    differs = {name for name in kept | made if kept.get(name) != made.get(name)}
    assert not differs, "run python -m tests.web.record"
