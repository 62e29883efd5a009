"""Tokenizers: the models' own, from the model cache, or a byte bound where there is none."""

import itertools
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import jinja2
import jinja2.sandbox
from tokenizers import Tokenizer as HubTokenizer

from ragtenancy_api.deployment import RAGDeploymentSpec
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.ports import ChatTokenizer, Message, Tokenizer

_BYTE_TEMPLATE_OVERHEAD: Final = 16
"""Tokens that a provider's chat template may put around one message, an upper bound: OpenAI's
takes 3 to 4, the longest of the public ones less than 10."""


class TokenizerMissing(Exception):
    """The model cache does not hold the model's tokenizer, not yet or not readable."""


class TemplateError(Exception):
    """The model's chat template refuses the conversation; the message says why."""


def snapshot(cache: Path, model: str) -> Path:
    """Directory of a model's files in a Hugging Face cache.

    Raises:
        TokenizerMissing: The model is not there yet.
    """
    repo = cache / "hub" / f"models--{model.replace('/', '--')}"
    try:
        revision = (repo / "refs" / "main").read_text().strip()
    except OSError as error:
        raise TokenizerMissing(f"{model}: {error.strerror}: {error.filename}") from error
    return repo / "snapshots" / revision


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TokenizerMissing(f"{error.strerror}: {error.filename}") from error


class ModelTokenizer:
    """A model's own tokenizer."""

    def __init__(self, definition: str) -> None:
        self._tokenizer = HubTokenizer.from_str(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    @classmethod
    def load(cls, cache: Path, model: str) -> "ModelTokenizer":
        """Read a model's tokenizer from the model cache.

        Raises:
            TokenizerMissing: It is not there.
        """
        return cls(_read(snapshot(cache, model) / "tokenizer.json"))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Character span of each token."""
        offsets: list[tuple[int, int]] = self._tokenizer.encode(
            text, add_special_tokens=False
        ).offsets
        return offsets


class ByteTokenizer:
    """An upper bound for models whose tokenizer is unknown: no token is shorter than a byte."""

    special = 2

    def counts(self, texts: Sequence[str]) -> list[int]:
        """UTF-8 bytes of each text."""
        return [len(text.encode()) for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The character of each byte."""
        return list(
            itertools.chain.from_iterable(
                [(at, at + 1)] * len(character.encode()) for at, character in enumerate(text)
            )
        )


class ByteChatTokenizer:
    """The byte bound for whole conversations.

    Context is packed by an estimate of three bytes a token, or a provider's tenants would get a
    fourth of the context they ask for; what is reserved for it is still the bound.
    """

    worst = 3

    def count(self, text: str) -> int:
        """An estimate of a text's tokens."""
        return -(-len(text.encode()) // self.worst)

    def prompt_tokens(self, messages: Sequence[Message], tools: list[Any] | None = None) -> int:
        """An upper bound of the conversation's tokens."""
        text = sum(len(json.dumps(message, ensure_ascii=False).encode()) for message in messages)
        extra = len(json.dumps(tools, ensure_ascii=False).encode()) if tools else 0
        return text + extra + _BYTE_TEMPLATE_OVERHEAD * (len(messages) + 1)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, **options: Any) -> str:
    # As transformers does: jinja's own filter would escape HTML characters.
    return json.dumps(value, ensure_ascii=False, **options)


def compile_template(source: str) -> jinja2.Template:
    """Compile a chat template as transformers does, in a sandbox."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


class ModelChatTokenizer(ModelTokenizer):
    """A chat model's tokenizer with its chat template: counts what vLLM will count."""

    worst = 1

    def __init__(self, definition: str, config: dict[str, Any], template: str) -> None:
        super().__init__(definition)
        self._template = compile_template(template)
        self._names = {
            name: token["content"] if isinstance(token, dict) else token
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (token := config.get(name)) is not None
        }

    @classmethod
    def load(cls, cache: Path, model: str) -> "ModelChatTokenizer":
        """Read a chat model's tokenizer and template from the model cache.

        Raises:
            TokenizerMissing: One of them is not there.
        """
        directory = snapshot(cache, model)
        config = json.loads(_read(directory / "tokenizer_config.json"))
        template = config.get("chat_template")
        if isinstance(template, list):
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default")
        if template is None:
            template = _read(directory / "chat_template.jinja")
        return cls(_read(directory / "tokenizer.json"), config, template)

    def prompt_tokens(self, messages: Sequence[Message], tools: list[Any] | None = None) -> int:
        """Tokens of the conversation as the model's template renders it.

        Raises:
            TemplateError: The template refuses it.
        """
        try:
            text = self._template.render(
                messages=messages, tools=tools, add_generation_prompt=True, **self._names
            )
        except (jinja2.TemplateError, TypeError, KeyError, AttributeError) as error:
            raise TemplateError(str(error)) from error
        return self.count(text)

    def count(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        return self.counts([text])[0]


class Tokenizers:
    """The tokenizers of the deployment's models, loaded as the model cache gets them."""

    def __init__(self, embedding_cache: Path | None, generation_cache: Path | None) -> None:
        self._embedding_cache = embedding_cache
        self._generation_cache = generation_cache
        self._embedding: dict[str, Tokenizer] = {}
        self._generation: dict[str, ChatTokenizer] = {}

    def embedding(self, model: str) -> Tokenizer:
        """The embedding model's tokenizer.

        Raises:
            Unavailable: It is not loaded yet.
        """
        if model not in self._embedding:
            raise Unavailable("embedding model's tokenizer")
        return self._embedding[model]

    def generation(self, model: str) -> ChatTokenizer:
        """The chat model's tokenizer.

        Raises:
            Unavailable: It is not loaded yet.
        """
        if model not in self._generation:
            raise Unavailable("chat model's tokenizer")
        return self._generation[model]

    def load(self, deployment: RAGDeploymentSpec) -> None:
        """Load what the deployment needs and is not loaded; forget models it no longer has.

        Raises:
            TokenizerMissing: A model's files are not there yet.
        """
        name = deployment.embedding.model
        if name not in self._embedding:
            self._embedding = {
                name: ByteTokenizer()
                if self._embedding_cache is None
                else ModelTokenizer.load(self._embedding_cache, name)
            }
        name = deployment.generation.model
        if name not in self._generation:
            self._generation = {
                name: ByteChatTokenizer()
                if self._generation_cache is None
                else ModelChatTokenizer.load(self._generation_cache, name)
            }
