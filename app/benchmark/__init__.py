"""The Benchmark tab: accuracy on downstream tasks, a policy against static at its spend."""

from app.benchmark.tab import build_tab

__all__ = ["build_tab"]
