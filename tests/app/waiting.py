"""Wait for what other processes do."""

import time


def wait_until(is_true, seconds=30.0):
    """Wait for something that another process does."""
    gives_up_at = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < gives_up_at, f"waited {seconds} s in vain"
        time.sleep(0.02)
