"""The counterfactual lens, *What if?* on the page: one token under every level of every axis."""
