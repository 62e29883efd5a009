import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.retrieval.search import first_tokens
from ragtenancy_runtime.tokens import (
    ByteTokenizer,
    ModelChatTokenizer,
    ModelTokenizer,
    TemplateError,
    TokenizerMissing,
    Tokenizers,
)
from tests.fakes.manifests import CHAT_MODEL, EMBEDDING_MODEL, deployment_manifest

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'bad' %}{{ raise_exception('no') }}{% endif %}"
    "{{ bos_token }} {{ m.content }} {% endfor %}"
)


def definition() -> str:
    """A tokenizer that splits at white space, and adds two special tokens."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    text: str = tokenizer.to_str()
    return text


def cache(root: Path, model: str, **files: str) -> Path:
    """A Hugging Face cache with one model."""
    repo = root / "hub" / f"models--{model.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    for name, text in files.items():
        (repo / "snapshots" / "abc" / name.replace("__", ".")).write_text(text)
    return root


def config(**more: Any) -> str:
    return json.dumps({"bos_token": {"content": "<s>"}, "chat_template": TEMPLATE, **more})


def test_truncation_and_padding_of_the_file_are_not_taken_over() -> None:
    tokenizer = ModelTokenizer(definition())
    assert tokenizer.special == 2
    assert tokenizer.counts(["a b c d e f", ""]) == [6, 0]
    assert tokenizer.offsets("ab  c") == [(0, 2), (4, 5)]


def test_a_conversation_is_counted_as_the_template_renders_it(tmp_path: Path) -> None:
    root = cache(tmp_path, "o/m", tokenizer__json=definition(), tokenizer_config__json=config())
    tokenizer = ModelChatTokenizer.load(root, "o/m")
    messages = [{"role": "user", "content": "a b"}, {"role": "user", "content": "c"}]
    assert tokenizer.prompt_tokens(messages) == 5
    with pytest.raises(TemplateError, match="no"):
        tokenizer.prompt_tokens([{"role": "bad", "content": ""}])


def test_a_template_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    files = {"tokenizer__json": definition(), "chat_template__jinja": "{{ messages[0].content }}"}
    root = cache(tmp_path, "o/m", tokenizer_config__json=config(chat_template=None), **files)
    assert ModelChatTokenizer.load(root, "o/m").prompt_tokens([{"content": "x y z"}]) == 3


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    escape = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    files = {
        "tokenizer__json": definition(),
        "tokenizer_config__json": config(chat_template=escape),
    }
    tokenizer = ModelChatTokenizer.load(cache(tmp_path, "o/m", **files), "o/m")
    with pytest.raises(TemplateError):
        tokenizer.prompt_tokens([])


def test_a_model_that_is_not_there_yet_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerMissing, match="o/m"):
        ModelTokenizer.load(tmp_path, "o/m")
    deployment = RAGDeployment.model_validate(deployment_manifest("http://m/v1")).spec
    tokenizers = Tokenizers(tmp_path, None)
    with pytest.raises(TokenizerMissing):
        tokenizers.load(deployment)
    with pytest.raises(Unavailable):
        tokenizers.embedding(EMBEDDING_MODEL)
    cache(tmp_path, EMBEDDING_MODEL, tokenizer__json=definition())
    tokenizers.load(deployment)
    assert tokenizers.embedding(EMBEDDING_MODEL).counts(["a b"]) == [2]
    assert tokenizers.generation(CHAT_MODEL).worst == 3


def test_a_query_is_cut_to_what_the_model_takes() -> None:
    assert first_tokens("a b c d", 4, ModelTokenizer(definition())) == "a b"
    assert first_tokens("a b", 4, ModelTokenizer(definition())) == "a b"
    assert first_tokens("ééé", 6, ByteTokenizer()) == "éé"
