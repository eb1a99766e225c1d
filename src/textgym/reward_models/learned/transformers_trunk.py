"""Any encoder or causal model of transformers' as the trunk of a reward model.

A directory is opened with its configuration, its safetensors and its `tokenizer.json`, and nothing
else: no code of a checkpoint's own, no pickle, no network. A reward model's checkpoint holds a
copy, so that it can be moved, and its manifest the SHA-256 of every file.
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from tokenizers import Tokenizer as Backend
from torch import Tensor, nn

from textgym.errors import InputError
from textgym.paths import expand
from textgym.saved_fields import SavedFields
from textgym.storage import read_json, require_regular_file, write_json_atomically
from textgym.transformers_files import read_model

TRUNK_FILE = "trunk.json"
MOST_LAYERS = 64
_DEFAULT_CONTEXT = 512  # of a model without learned positions


class TransformersTokenizer:
    """The token ids of a `tokenizer.json`, with the tokens that its model expects around a text.

    :param backend: the `tokenizers.Tokenizer` that does the work.
    :param pad_token_id: fills rows up; it is masked, so any id will do.
    """

    def __init__(self, backend: Backend, pad_token_id: int) -> None:
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.pad_token_id = self.eos_token_id = pad_token_id

    def encode_batch(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Token ids of each text."""
        found = self.backend.encode_batch(_clean(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in found]

    def offsets_batch(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[tuple[int, int]]]:
        """Where each token stands in its text, in characters; (0, 0) for those around it."""
        found = self.backend.encode_batch(_clean(texts), add_special_tokens=add_special_tokens)
        return [encoding.offsets for encoding in found]


class TransformersTrunk(nn.Module):
    """A model of transformers' that gives hidden states of right-padded rows.

    :param model: an encoder or a causal model without its head.
    :param tokenizer: its tokenizer.
    :param layers: how many of the last layers are put side by side; what a frozen model says of a
        text is often in its middle layers rather than in the last.
    :raises InputError: for a number of layers that the model does not have, or a model that is an
        encoder and a decoder at once.
    """

    def __init__(self, model: Any, tokenizer: TransformersTokenizer, layers: int = 1) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer, self.layers = tokenizer, layers
        config: Any = self.model.config
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(
                f"a {config.model_type} model is an encoder and a decoder at once: take an encoder "
                "(BERT and its kin) or a causal model"
            )
        most = int(config.num_hidden_layers)
        if not 1 <= layers <= most:
            raise InputError(f"expected layers from 1 to {most}, the model's, got {layers}")
        self.config = SimpleNamespace(
            hidden_size=int(config.hidden_size) * layers, max_position_embeddings=_context(model)
        )

    @classmethod
    def open(cls, directory: str | Path, *, layers: int = 1) -> Self:
        """The model of a directory, in float32.

        :raises InputError: naming the directory and what is wrong with it, or the extra to install.
        """
        place = Path(expand(directory))
        config = read_json(place / "config.json")
        if isinstance(config, dict) and config.get("auto_map"):
            raise InputError(
                f"{place}: its config.json names code of its own (auto_map), which is never run: "
                "take a model of a family that transformers has"
            )
        if not any(place.glob("*.safetensors")):
            raise InputError(f"{place}: holds no .safetensors file; pickled weights are not read")
        what = f"the trunk in {directory}"
        model = read_model("AutoModel", place, what=what, dtype=torch.float32)
        pad = getattr(model.config, "pad_token_id", None)
        tokenizer = TransformersTokenizer(_backend(place), int(pad or 0))
        return cls(model, tokenizer, layers).eval()

    @classmethod
    def reopen(cls, directory: Path) -> Self:
        """What `save_pretrained` wrote.

        :raises InputError: naming the file and what is wrong with it.
        """
        fields = SavedFields(read_json(directory / TRUNK_FILE), directory / TRUNK_FILE)
        return cls.open(directory, layers=fields.whole("layers", 1, MOST_LAYERS))

    def hidden_states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states `[b, t, layers · d]` of right-padded rows; padding is not attended to.

        :param tokens: int64 `[b, t]`.
        :param lengths: int64 `[b]`.
        """
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        found = self.model(
            input_ids=tokens, attention_mask=mask.long(), output_hidden_states=self.layers > 1
        )
        if self.layers == 1:
            last: Tensor = found.last_hidden_state
            return last
        return torch.cat(found.hidden_states[-self.layers :], dim=-1)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a directory that transformers opens too, with our `trunk.json`.

        :raises OSError: if it cannot be written.
        """
        place = Path(directory)
        self.model.save_pretrained(str(place), safe_serialization=True)
        self.tokenizer.backend.save(str(place / "tokenizer.json"))
        write_json_atomically(place / TRUNK_FILE, {"layers": self.layers})


def _backend(place: Path) -> Backend:
    file = place / "tokenizer.json"
    require_regular_file(file)
    try:
        return Backend.from_file(str(file))
    except BaseException as error:  # the library panics on some files
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise InputError(f"{file}: not a tokenizer that can be read ({error!s:.100})") from None


def _context(model: Any) -> int:
    """The longest row: learned positions may leave the first places out, as RoBERTa's do."""
    longest = getattr(model.config, "max_position_embeddings", None) or _DEFAULT_CONTEXT
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            longest -= int(part.padding_idx) + 1
    return int(longest)


def _clean(texts: Sequence[str]) -> list[str]:
    """Texts that UTF-8 can hold: a lone surrogate becomes U+FFFD."""
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
