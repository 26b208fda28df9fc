"""Files of a model's folder: configuration, weights, tokenizer.

Configuration is JSON, weights are safetensors. No code of a folder runs.
"""

from sol_core.models.checkpoint.config_file import end_ids, read_config, whole_ids
from sol_core.models.checkpoint.plain_tokenizer import PlainTokenizer, TextCodec
from sol_core.models.checkpoint.tokenizer_files import check_vocabulary, read_tokenizer
from sol_core.models.checkpoint.weight_files import read_tensors

__all__ = [
    "PlainTokenizer",
    "TextCodec",
    "check_vocabulary",
    "end_ids",
    "read_config",
    "read_tensors",
    "read_tokenizer",
    "whole_ids",
]
