"""A model that could not be loaded: what a second try in the same process can do."""

import subprocess
import sys

import pytest

from app.model.compute import ModelLoader
from sol_core.errors import ModelLoadError

# The import of torch is cut as by a lack of file descriptors.
HALF_IMPORTED = """
import sys
from app.model.compute import ModelLoader

class Cut:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.autograd":
            raise OSError(24, "Too many open files")

def load(on_progress):
    import torch

cut = Cut()
sys.meta_path.insert(0, cut)
loader = ModelLoader("m", load)
loader._work()
sys.meta_path.remove(cut)
print(loader.status().message)
"""


def loader_failing_with(error):
    def load(on_progress):
        raise error

    loader = ModelLoader("m", load)
    loader._work()
    return loader


def test_a_half_imported_torch_needs_a_restart():
    done = subprocess.run(
        [sys.executable, "-c", HALF_IMPORTED], capture_output=True, text=True, check=True
    )
    assert "Too many open files" in done.stdout
    assert done.stdout.strip().endswith("restart SOL Explorer.")


def test_retry_says_so_too():
    error = RuntimeError("Only a single TORCH_LIBRARY can be used to register the namespace")
    with pytest.raises(ModelLoadError, match=r"A second try cannot work: restart SOL Explorer\.$"):
        loader_failing_with(error).retry()


def test_what_may_work_the_second_time_is_tried():
    loader = loader_failing_with(OSError(24, "Too many open files"))
    assert "restart" not in loader.status().message
    loader.retry()
    with pytest.raises(ModelLoadError, match="Too many open files"):
        loader.wait(lambda: False)


def test_nobody_has_the_model_before_it_is_ready():
    seen = []

    class Model:
        name, dtype_name, device_name, context_length, notes = "m", "float32", "cuda:0", 99, ()

        def __getattribute__(self, name):
            seen.append(loader.loaded())
            return super().__getattribute__(name)

    loader = ModelLoader("m", lambda on_progress: Model())
    loader._work()
    assert set(seen) == {None}, "what waits for it is not told that it is still loading"
    assert isinstance(loader.wait(lambda: True), Model)
