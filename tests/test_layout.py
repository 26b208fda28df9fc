"""Sizes of folders; import-linter checks the imports."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 15  # Python files in one folder
MOST_AT_THE_TOP = {"app": 6, "sol_core": 10}


def test_a_folder_is_small_enough_to_be_read_at_a_glance():
    sizes = Counter(
        str(path.parent.relative_to(ROOT))
        for package in ("app", "sol_core", "kernels", "storage", "tests")
        for path in (ROOT / package).rglob("*.py")
    )
    most = {name: MOST_AT_THE_TOP.get(name, MOST) for name in sizes}
    assert {name: size for name, size in sizes.items() if size > most[name]} == {}
