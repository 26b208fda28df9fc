"""Takes over a language model that transformers has loaded.

Weights are copied and arranged like those of files, so the original may be changed, trained or
deleted afterwards. Nothing is read from disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sol_core.fields import check_kind
from sol_core.models.checkpoint import check_vocabulary, whole_ids
from sol_core.models.decoder import FrozenLM
from sol_core.models.families import refuse_denied_biases, spec_from_config
from sol_core.models.loading import LanguageModel, fingerprint_of
from sol_core.models.weights import arrange_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.no_grad()
def from_transformers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str = ""
) -> LanguageModel:
    """Take over a loaded causal language model, on its device and in its number format.

    Args:
        model: a causal language model of a supported family (docs/models.md).
        tokenizer: the model's tokenizer.
        name: of the result; "" takes the folder or Hub id that the model was loaded from.
    Returns: a copy. Its fingerprint equals that of the model's files, so their policies fit it.
    Raises: UnsupportedModelError for a family that this decoder does not support; ModelLoadError
        for weights that do not fit their configuration.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    check_kind("model", model, PreTrainedModel, "a model of transformers")
    check_kind("tokenizer", tokenizer, PreTrainedTokenizerBase, "a tokenizer of transformers")
    config = model.config
    check_vocabulary(tokenizer, spec_from_config(config))
    lm, fingerprint = frozen_copy(model)
    ends = (config, model.generation_config, tokenizer)
    return LanguageModel(
        name or str(config.name_or_path) or config.model_type,
        fingerprint,
        lm,
        tokenizer,
        whole_ids(end.eos_token_id for end in ends if end is not None),
    )


@torch.no_grad()
def frozen_copy(model: PreTrainedModel) -> tuple[FrozenLM, str]:
    """A model's weights for this decoder, and its fingerprint."""
    spec, tensors = spec_from_config(model.config), dict(model.state_dict())
    head = model.get_output_embeddings()
    if head is not None and head.weight is model.get_input_embeddings().weight:
        del tensors["lm_head.weight"]  # as in its files
    refuse_denied_biases(model.config, tensors)
    weights = arrange_weights(tensors, spec, model.dtype, torch.clone)
    return FrozenLM(spec, weights), fingerprint_of(spec, tensors)
