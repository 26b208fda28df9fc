"""The counterfactual lens: one token of a run or a text under every level of every axis."""
