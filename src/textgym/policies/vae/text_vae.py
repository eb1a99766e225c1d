"""The text variational autoencoder: an encoder from texts to z, and a decoder from z to texts.

The model of the source document's section 4, after Kingma and Welling 2014 and Bowman et al. 2016.
Legend: `b` texts, `l` latent size, `d` hidden size, `v` vocabulary.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.latent_decoders import check_latents
from textgym.policies.language_model.decoder import Decoder
from textgym.policies.language_model.generation import generate_tokens
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.lstm import VariationalLSTM
from textgym.policies.language_model.packing import pack_sequences
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.vae.checkpoint import read_vae, save_vae
from textgym.policies.vae.config import TextVAEConfig
from textgym.policies.vae.documents import prompt_rows, reading, start_row, text_rows
from textgym.policies.vae.fixed_scale import FixedScale
from textgym.policies.vae.given_latents import DecoderGivenLatents
from textgym.policies.vae.lstm_trunks import LSTMReader, LSTMWriter
from textgym.policies.vae.transformer_trunks import TransformerReader, TransformerWriter
from textgym.policies.vae.trunks import Reader, Writer
from textgym.tokenizer import Tokenizer

LATENT_STD = 0.1  # of the weights from z to the decoder, when they are fresh
_ROWS_AT_A_TIME = 256


class TextVAE(nn.Module):
    """q(z | text), p(z) = N(0, 1) and p(text | z), with their tokenizer.

    It is a `textgym.latent_decoders.LatentDecoder`, too.

    :param config: its shape.
    :param tokenizer: its tokenizer; `vocab_size` must not exceed the model's.
    :raises InputError: if the two do not fit.
    """

    reader: Reader
    writer: Writer

    def __init__(self, config: TextVAEConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        if tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the autoencoder only "
                f"{config.vocab_size}: use the tokenizer that it was trained with"
            )
        self.config, self.tokenizer = config, tokenizer
        if config.architecture == "lstm":
            self.reader, self.writer = LSTMReader(config), LSTMWriter(config)
        else:
            self.reader, self.writer = TransformerReader(config), TransformerWriter(config)
        self.to_posterior = nn.Linear(config.hidden_size, 2 * config.latent_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.mean_scale:
            self.fixed_scale = FixedScale(config.latent_size, config.mean_scale)

    @classmethod
    def new(cls, tokenizer: Tokenizer, *, seed: int = 0, **config: Any) -> Self:
        """A fresh model with random weights (its own generator; the global one is not touched).

        :param config: fields of `TextVAEConfig`; `vocab_size` is the tokenizer's if left out.
        """
        check_numbers({"seed": seed})
        shape = TextVAEConfig.filled_in(**{"vocab_size": tokenizer.vocab_size, **config})
        shape.check_memory()
        with torch.device("meta"):
            vae = cls(shape, tokenizer)
        vae.to_empty(device="cpu")
        vae.finish_loading()
        vae.initialize(seed)
        return vae.eval()

    @classmethod
    def from_language_model(cls, lm: LanguageModel, *, seed: int = 0, **config: Any) -> Self:
        """An autoencoder whose encoder and decoder begin with a language model's weights.

        So it writes as well as the language model from the start, and learns what z is for (Li et
        al. 2020, "Optimus"). What is added to its embeddings for z has their size.

        :param lm: a transformer; its weights are copied.
        :param seed: of the weights that it does not have.
        :param config: fields of `TextVAEConfig` but for the shape of the language model.
        :raises InputError: for a model that is no transformer.
        """
        trunk = getattr(lm, "model", None)
        if not isinstance(trunk, Decoder):
            raise InputError(
                f"policy must be a transformer, got {type(trunk or lm).__name__}: z is mapped to "
                "the width of its embeddings"
            )
        check_numbers({"seed": seed})
        shape = TextVAEConfig.of_language_model(trunk.config, **config)
        vae = cls(shape, lm.tokenizer)
        vae.initialize(seed)
        for part in (vae.reader, vae.writer):
            part.get_submodule("model").load_state_dict(trunk.state_dict())
        with torch.no_grad():
            vae.lm_head.weight.copy_(lm.lm_head.weight)
            size = float(trunk.embed_tokens.weight.detach().std()) / math.sqrt(shape.latent_size)
            vae.writer.get_parameter("latent_proj.weight").mul_(size / LATENT_STD)
        return vae.eval()

    def finish_loading(self) -> None:
        """The rotary frequencies, which the state on disk does not hold."""
        for module in self.modules():
            if isinstance(module, Decoder):
                module.finish_loading()

    def initialize(self, seed: int) -> None:
        """Draw all weights, as the language models draw theirs, but wider where z begins.

        An LSTM has no norm in front that would raise its embeddings, and an encoder whose first
        answers are all alike is not listened to.
        """
        generator = torch.Generator().manual_seed(seed)
        is_lstm = self.config.architecture == "lstm"
        wider = {
            "writer.latent_proj.weight": LATENT_STD,
            "to_posterior.weight": 0.5 / math.sqrt(self.config.hidden_size),
            "reader.embed_tokens.weight": 0.2 if is_lstm else 0.02,
            "writer.embed_tokens.weight": 0.2 if is_lstm else 0.02,
        }
        residual_std = 0.02 / math.sqrt(2 * self.config.num_hidden_layers)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("norm.weight"):
                    parameter.fill_(1.0)
                elif name.endswith("bias"):
                    parameter.zero_()
                else:
                    is_branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                    std = wider.get(name, residual_std if is_branch else 0.02)
                    parameter.normal_(0.0, std, generator=generator)
        for module in self.modules():
            if isinstance(module, VariationalLSTM):
                module.reset_parameters(generator)
            elif isinstance(module, FixedScale):
                module.reset()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    @property
    def latent_size(self) -> int:
        """Dimensions of z."""
        return self.config.latent_size

    @property
    def context(self) -> int:
        """The most tokens that a prompt and what is written behind it may take together."""
        return self.config.max_position_embeddings

    @property
    def observation_size(self) -> int:
        """Numbers that `encode_prompts` gives of each prompt."""
        return self.config.latent_size

    def set_dropout(self, share: float) -> None:
        """What encoder and decoder drop in training mode.

        An LSTM drops variationally, one mask a sequence (Gal and Ghahramani 2016), a transformer on
        its residual branches.
        """
        for module in self.modules():
            if isinstance(module, Decoder | VariationalLSTM):
                module.drop = share

    def posterior(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | text): both `[b, l]` float32.

        :param tokens: `[N]` int64, what the encoder reads (`documents.reading`), laid end to end.
        :param lengths: `[b]` int64.
        """
        mean, log_variance = self.to_posterior(self.reader(tokens, lengths)).float().chunk(2, -1)
        return (self.fixed_scale(mean) if self.config.mean_scale else mean), log_variance

    @torch.no_grad()
    def encode(
        self, texts: Sequence[str], prompts: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the posterior of texts: both float32 `[b, l]`.

        :param prompts: which the texts go on from; of a conditional autoencoder only.
        :raises InputError: for an empty text, or one that exceeds the context.
        """
        self._check_prompts(prompts, len(texts), "encode")
        context = self.config.max_position_embeddings
        if prompts is None:
            rows = [reading(self.tokenizer, r) for r in text_rows(self.tokenizer, texts, context)]
        else:
            before = prompt_rows(self.tokenizer, prompts)
            after = self.tokenizer.encode_continuations(prompts, texts)
            both = zip(after, before, strict=True)
            rows = [reading(self.tokenizer, text, prompt) for text, prompt in both]
            self._check_rows(rows, 0)
        return self.read_rows(rows)

    def read_rows(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """As `encode`, of rows as the encoder reads them (`documents.reading`)."""
        parts = []
        for i in range(0, len(rows), _ROWS_AT_A_TIME):
            tokens, lengths = pack_sequences(rows[i : i + _ROWS_AT_A_TIME])
            parts.append(self.posterior(tokens.to(self.device), lengths.to(self.device)))
        if not parts:
            nothing = torch.zeros(0, self.latent_size, device=self.device)
            return nothing, nothing
        means, log_variances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(log_variances)

    def _check_prompts(self, prompts: Sequence[str] | None, count: int, verb: str) -> None:
        if prompts is not None and not self.config.conditional and verb == "encode":
            raise InputError("this autoencoder is not conditional: encode texts without prompts")
        if prompts is None and self.config.conditional:
            raise InputError(f"this autoencoder is conditional: {verb} needs prompts")
        if prompts is not None and len(prompts) != count:
            raise InputError(f"expected a prompt for each of {count} rows, got {len(prompts)}")

    def _check_rows(self, rows: Sequence[Sequence[int]], more: int) -> None:
        """Raises unless rows and what is written behind them fit the context."""
        longest = max(map(len, rows), default=0)
        context = self.config.max_position_embeddings
        if longest + more > context:
            written = f" and max_new_tokens={more}" if more else ""
            raise InputError(
                f"a prompt of {longest} tokens{written} exceed the autoencoder's context of "
                f"{context}: shorten one"
            )

    @torch.no_grad()
    def decode_tokens(
        self,
        latents: Tensor,
        prompts: Sequence[str] | None = None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:
        """The texts that latents stand for, as token ids, stop tokens left out.

        All rows are decoded at once, with a cache; what a row becomes does not depend on the
        others where the likeliest token is taken.

        :param latents: float `[b, l]`.
        :param prompts: which the texts go on from; None: they stand alone. The decoder of an
            autoencoder that is not conditional goes on from them as from the start of a text.
        :param temperature: 0 takes the likeliest token.
        :param generator: of what is drawn, on the model's device; needed unless temperature is 0.
        :raises InputError: for latents of another shape, or that are not finite; for prompts that
            do not fit.
        """
        check_numbers({"max_new_tokens": max_new_tokens})
        if not isinstance(latents, Tensor):
            latents = torch.as_tensor(check_latents(latents, self.latent_size))
        check_latents(latents.detach().cpu().float().numpy(), self.latent_size)
        if temperature > 0 and generator is None:
            raise InputError("temperature above 0 draws tokens: pass a generator")
        self._check_prompts(prompts, len(latents), "decode")
        latents = latents.to(self.device, self.lm_head.weight.dtype)
        if prompts is None:
            rows = [start_row(self.tokenizer)] * len(latents)
        else:
            rows = prompt_rows(self.tokenizer, prompts)
        self._check_rows(rows, max_new_tokens)
        if generator is None:
            generator = torch.Generator(self.device)
        written: list[list[int]] = []
        was_training = self.training
        self.eval()
        for i in range(0, len(rows), _ROWS_AT_A_TIME):
            part = slice(i, i + _ROWS_AT_A_TIME)
            written += generate_tokens(
                DecoderGivenLatents(self, latents[part]),
                rows[part],
                max_new_tokens=max_new_tokens,
                sampling=Sampling(temperature=temperature),
                generator=generator,
                batch_size=_ROWS_AT_A_TIME,
            )
        self.train(was_training)
        return written

    def decode(
        self,
        latents: Tensor,
        prompts: Sequence[str] | None = None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """The texts that latents stand for, without their prompts; see `decode_tokens`."""
        rows = self.decode_tokens(
            latents,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            generator=generator,
        )
        if prompts is None:
            return self.tokenizer.decode_batch(rows)
        return self.tokenizer.decode_continuations(prompt_rows(self.tokenizer, prompts), rows)

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """`[count, l]` draws of N(0, 1).

        :param generator: on the CPU.
        """
        return torch.randn(count, self.latent_size, generator=generator).to(self.device)

    # ---- as environments see it: NumPy in, NumPy and token ids out -----------------------------

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """The mean of the posterior of prompts, read as texts: float32 `[b, l]`.

        :raises InputError: for an empty prompt, or one that exceeds the context.
        """
        rows = prompt_rows(self.tokenizer, prompts)
        if not self.config.conditional:  # its encoder never saw a start token
            rows = [row[len(self.tokenizer.start_ids) :] for row in rows]
        rows = [reading(self.tokenizer, row) for row in rows]
        self._check_rows(rows, 0)
        mean, _ = self.read_rows(rows)
        return mean.cpu().numpy()

    def decode_latents(
        self,
        latents: np.ndarray,
        prompts: Sequence[str] | None = None,
        *,
        rng: np.random.Generator | None = None,
        max_new_tokens: int,
    ) -> list[list[int]]:
        """See `textgym.latent_decoders.LatentDecoder`."""
        array = check_latents(latents, self.latent_size)
        generator = None
        if rng is not None:
            generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        return self.decode_tokens(
            torch.from_numpy(array),
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=0.0 if rng is None else 1.0,
            generator=generator,
        )

    # ---- on disk -------------------------------------------------------------------------------

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `vae.json`, `model.safetensors` and the tokenizer (atomically).

        :raises StorageError: if the directory cannot be written.
        """
        save_vae(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, tokenizer: Tokenizer | None = None) -> Self:
        """Open a directory that `save_pretrained` wrote, or a run of `pretrain_vae`.

        :param tokenizer: whose vocabulary it must have, if given.
        :raises InputError: naming the file and what is wrong with it.
        """
        vae = read_vae(cls, directory)
        if tokenizer is not None and tokenizer != vae.tokenizer:
            raise InputError(
                f"{directory}: the autoencoder has another vocabulary ({vae.tokenizer.vocab_size} "
                f"tokens) than the tokenizer given ({tokenizer.vocab_size}): take the tokenizer "
                "that it was trained with"
            )
        return vae
