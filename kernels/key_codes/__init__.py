"""4-bit copies of keys, and page scores from them. Nothing of attention itself is here."""

from kernels.key_codes.reference import (
    OCTET,
    encode_keys,
    estimated_scores,
    page_log_mass,
    round_queries,
)

__all__ = ["OCTET", "encode_keys", "estimated_scores", "page_log_mass", "round_queries"]
