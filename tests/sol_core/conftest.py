"""A tiny model for the tests of a file, which do not change it."""

import pytest

from tests.support.tiny_language_model import make_language_model


@pytest.fixture(scope="module")
def model():
    return make_language_model()
