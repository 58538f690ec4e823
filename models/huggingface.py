"""Our models as files of Hugging Face's transformers: GPT-2's architecture, or Llama's.

The default model is GPT-2's; rotary positions, RMSNorm, SwiGLU and no biases together are
Llama's. TransformerLens and TRL load either.
"""

import dataclasses
import json
from typing import Any

import numpy as np
import safetensors.numpy

from models.transformer import ModelConfig, Params, position_embeddings
from models.weights import Described, WeightsError
from synth.vocab import Marks

LLAMA = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "biases": False}


def files(params: Params, described: Described) -> dict[str, bytes]:
    """The content of each file of the folder that `from_pretrained` reads, model and tokenizer.

    Raises WeightsError for a model that neither architecture can hold, naming the setting, and for a
    token that the tokenizer would take for several.
    """
    model, names, marks = described
    # What decoding may leave out; <null> is none of it, as a refusal is made of it.
    special = dataclasses.asdict(marks)
    apart = [names[token] for token in special.values()]
    for name in names:
        part = next((mark for mark in apart if mark in name and mark != name), None)
        if part:
            raise WeightsError(
                f"the token {name} has {part} in it, at which the tokenizers of transformers split any word: its ids "
                "would be other ones; rename it in the world, or to=safetensors, which writes any model"
            )
    config, tensors = _llama(model, params) if _is_llama(model) else _gpt2(model, params)
    tokens = {f"{role}_token_id": token for role, token in special.items()}
    shared = {"vocab_size": len(names), "tie_word_embeddings": model.tied, "torch_dtype": "float32", **tokens}
    tokenizer = {f"{role}_token": names[token] for role, token in special.items()}
    return {
        "config.json": _json({**config, **shared}),
        "generation_config.json": _json({**tokens, "max_length": model.context, "do_sample": False}),
        "model.safetensors": safetensors.numpy.save(tensors, {"format": "pt"}),
        "tokenizer.json": _json(_tokenizer(names, marks)),
        "tokenizer_config.json": _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": model.context,
                # By default older versions add token types, which GPT-2 embeds and Llama refuses.
                "model_input_names": ["input_ids", "attention_mask"],
                "clean_up_tokenization_spaces": False,
                **tokenizer,
            }
        ),
    }


def _is_llama(model: ModelConfig) -> bool:
    """Whether it is Llama's architecture; if not, it can be GPT-2's. Raises WeightsError if it is neither's."""
    if model.reference_block:
        raise WeightsError(
            "model.reference_block=true: neither GPT-2 nor Llama has it; to=safetensors writes any model"
        )
    wanted = {name: f"{name}={str(value).lower()}" for name, value in LLAMA.items()}
    shared = {name for name, value in LLAMA.items() if getattr(model, name) == value}
    if shared == set(LLAMA):
        return True
    # Without biases GPT-2 has zeros for them.
    foreign = [f"kv_heads={model.keys}"] * (model.keys < model.heads)
    foreign += [wanted[name] for name in LLAMA if name in shared - {"biases"}]
    if foreign:
        needed = ", ".join(wanted[name] for name in LLAMA if name not in shared)
        raise WeightsError(
            f"model.{foreign[0]}: GPT-2 does not have it, and Llama has it with {needed} too; "
            "to=safetensors writes any model"
        )
    return False


def _gpt2(model: ModelConfig, params: Params) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": model.context,
        "n_embd": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "n_inner": model.hidden,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }
    tensors = {
        "transformer.wte.weight": params["W_E"],
        "transformer.wpe.weight": position_embeddings(model, params, model.context),
        **_norm("transformer.ln_f", params["ln_final"]),
    }
    for layer, block in params["blocks"].items():
        at, attn, mlp = f"transformer.h.{layer}", block["attn"], block["mlp"]
        qkv = {kind: np.concatenate([_bias(attn, f"{kind}_{n}", f"W_{n}") for n in "QKV"], -1) for kind in "Wb"}
        tensors |= {
            **_norm(f"{at}.ln_1", block["ln1"]),
            f"{at}.attn.c_attn.weight": qkv["W"],
            f"{at}.attn.c_attn.bias": qkv["b"],
            f"{at}.attn.c_proj.weight": attn["W_O"],
            f"{at}.attn.c_proj.bias": _bias(attn, "b_O", "W_O"),
            **_norm(f"{at}.ln_2", block["ln2"]),
            f"{at}.mlp.c_fc.weight": mlp["W_in"],
            f"{at}.mlp.c_fc.bias": _bias(mlp, "b_in", "W_in"),
            f"{at}.mlp.c_proj.weight": mlp["W_out"],
            f"{at}.mlp.c_proj.bias": _bias(mlp, "b_out", "W_out"),
        }
    return config, _whole(model, params, tensors)


def _llama(model: ModelConfig, params: Params) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": model.context,
        "hidden_size": model.width,
        "intermediate_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.keys,
        "head_dim": model.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
    }
    tensors = {"model.embed_tokens.weight": params["W_E"], **_norm("model.norm", params["ln_final"])}
    for layer, block in params["blocks"].items():
        at, attn, mlp = f"model.layers.{layer}", block["attn"], block["mlp"]
        # torch.nn.Linear holds its matrix transposed.
        tensors |= {f"{at}.self_attn.{n.lower()}_proj.weight": np.transpose(attn[f"W_{n}"]) for n in "QKVO"}
        tensors |= {
            f"{at}.mlp.{theirs}_proj.weight": np.transpose(mlp[ours])
            for theirs, ours in (("gate", "W_gate"), ("up", "W_in"), ("down", "W_out"))
        }
        tensors |= {
            **_norm(f"{at}.input_layernorm", block["ln1"]),
            **_norm(f"{at}.post_attention_layernorm", block["ln2"]),
        }
    return config, _whole(model, params, tensors)


def _whole(model: ModelConfig, params: Params, tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    if not model.tied:
        tensors["lm_head.weight"] = np.transpose(params["W_U"])
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def _norm(name: str, norm: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}.{theirs}": norm[ours] for ours, theirs in (("w", "weight"), ("b", "bias")) if ours in norm}


def _bias(part: dict[str, Any], name: str, matrix: str) -> np.ndarray:
    """A bias, 0 where the model has none: GPT-2 always has one."""
    return np.asarray(part[name]) if name in part else np.zeros(part[matrix].shape[-1], np.float32)


def _tokenizer(names: tuple[str, ...], marks: Marks) -> dict[str, Any]:
    """A word for each token, words separated by blanks, as in `experiments.data`'s files."""
    special = [
        {
            "id": token,
            "content": names[token],
            "special": True,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for token in sorted(dataclasses.astuple(marks))
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {name: i for i, name in enumerate(names)},
            "unk_token": names[marks.pad],
        },
    }


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()
