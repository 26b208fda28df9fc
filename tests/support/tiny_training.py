"""A training on a short text that ends within seconds."""

from sol_core.policy.info import PolicyConfig
from sol_core.training.config import TrainConfig

WORDS = ("the", "sea", "was", "calm", "and", "light", "of", "lamp", "went", "over", "water")


def tiny_train_config(folder, **phases):
    """Write a text into ``folder`` and return the configuration that trains on it."""
    text = folder / "text.txt"
    lines = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 40)) for i in range(1, 80)]
    text.write_text("\n\n".join(lines), "utf-8")
    return TrainConfig(
        corpus=str(text), context=16, windows=2, steps=4,
        policy=PolicyConfig(width=16, num_heads=2), held_out_texts=1, calibration_texts=2,
        **phases,
    )  # fmt: skip
