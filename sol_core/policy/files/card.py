"""The model card of a policy folder, written from measured numbers."""

from __future__ import annotations

import json

from sol_core.actions import AXES
from sol_core.files.places import DEFAULT_MODEL
from sol_core.policy.files.locate import is_hub_id
from sol_core.policy.info import PolicyInfo

_HUB_IDS = {DEFAULT_MODEL: "HuggingFaceTB/SmolLM2-135M-Instruct"}


def model_card(info: PolicyInfo) -> str:
    """README.md in the Hub's form."""
    levels = "\n".join(
        f"- {axis.term}: {some[0]:g} to {some[-1]:g} in {len(some)} levels"
        for axis, some in zip(AXES, info.grid.levels(), strict=True)
    )
    summary = json.dumps(info.summary, indent=1, sort_keys=True)
    return f"""---
library_name: sol-explorer
tags: [per-token-compute, policy, model_hub_mixin, pytorch_model_hub_mixin]
{_base_model(info.model)}---

# {info.name}

A compute-allocation policy for **{info.model}** (fingerprint `{info.fingerprint}`), after
*Self-Optimizing Language Models* (arXiv:2605.10875). Before every decode step it reads the
model's state and chooses how much attention is read, how many MLP channels are computed and
how many bits the MLP activations get, so that the mean meets a requested budget.

- network: {info.config.network}, {info.num_parameters:,} parameters
{levels}
- pages of {info.grid.page_size} tokens, quantised at `{info.grid.quant_site}`
- made {info.created or "at an unknown time"}

Use it from Python, with this folder or with its id on the Hugging Face Hub:

```python
from sol_core import Budget, Policy, generate, load_model

model = load_model({info.model!r})
policy = Policy.from_pretrained("FOLDER_OR_HUB_ID", model=model)
print(generate(model, "Why is the sky blue?", policy, Budget(0.5, 0.6, 8)).text)
```

or with `sol-explorer generate "…" --schedule policy:FOLDER --keep 0.5 --channels 0.6 --bits 8`, or
choose it on the page.

What its training measured, on held-out text of the training corpus:

```json
{summary}
```
"""


def _base_model(name: str) -> str:
    """The front matter's line; the Hub takes its own ids only, so a local folder has none."""
    hub_id = _HUB_IDS.get(name, name)
    return f"base_model: {hub_id}\n" if is_hub_id(hub_id) else ""
