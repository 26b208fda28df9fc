"""The model card of a policy folder, written from measured numbers."""

from __future__ import annotations

import json

from sol_core.policy.info import PolicyInfo

__all__ = ["model_card"]


def model_card(info: PolicyInfo) -> str:
    """README.md in the Hub's form."""
    keep, channels, bits = info.grid.levels()
    summary = json.dumps(info.summary, indent=1, sort_keys=True)
    return f"""---
library_name: sol-explorer
tags: [per-token-compute, policy]
base_model: {info.model}
---

# {info.name}

A compute-allocation policy for **{info.model}** (fingerprint `{info.fingerprint}`), after
*Self-Optimizing Language Models* (arXiv:2605.10875). Before every decode step it reads the
model's state and chooses how much attention is read, how many MLP channels are computed and
how many bits the MLP activations get, so that the mean meets a requested budget.

- network: {info.config.network}, {info.num_parameters:,} parameters
- attention kept: {keep[0]:g} to {keep[-1]:g} in {len(keep)} levels, pages of
  {info.grid.page_size} tokens
- channels kept: {channels[0]:g} to {channels[-1]:g} in {len(channels)} levels
- bits: {bits[0]} to {bits[-1]}, quantised at `{info.grid.quant_site}`
- made {info.created or "at an unknown time"}

Use it with `python launch.py generate "…" --schedule policy:FOLDER --keep 0.5 --channels 0.6
--bits 8`, or choose it on the page.

What its training measured, on held-out text of the training corpus:

```json
{summary}
```
"""
