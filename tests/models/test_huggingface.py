"""Tests of `models/huggingface.py`: what the files hold, and that transformers makes the same model of them.

What loads them with transformers needs the extra `interop`, and is skipped without it.
"""

import dataclasses
import functools
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from safetensors.numpy import load

from experiments.data.export import table
from models import huggingface
from models.decode import greedy
from models.transformer import ModelConfig, Params, forward, init
from models.weights import Described, WeightsError
from synth import sequences, vocab
from synth.lookup import sample_batch
from synth.prompts import TRAIN, verdicts
from synth.segments import Batch
from synth.world import World

LLAMA: dict[str, Any] = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "biases": False, "heads": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"kv_heads": 2},
    "gpt2 sinusoid": {"positions": "sinusoid"},
    "gpt2 without biases": {"biases": False},
    "gpt2 tied": {"tied": True},
    "llama": {**LLAMA, "kv_heads": 2},
    "llama tied": {**LLAMA, "tied": True},
}
WIDTH = 16
# float32 in two frameworks: a few hundred roundings of 6e-8 on logits of order 10.
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


class Exported(NamedTuple):
    """A model and the files it was exported to."""

    model: ModelConfig
    params: Params
    files: dict[str, bytes]


class BatchAndRows(NamedTuple):
    """Prompts with the response of a safe model, as sequences and as `experiments.data` writes them."""

    batch: Batch
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module", params=SHAPES)
def exported(request: pytest.FixtureRequest, world: World, model: ModelConfig) -> Exported:
    config = dataclasses.replace(model, width=WIDTH, **SHAPES[request.param])
    shapes = jax.eval_shape(lambda: init(config, world.vocab.size, jax.random.key(0)))
    draws = np.random.default_rng(3)
    params = jax.tree.map(lambda leaf: np.float32(0.4 * draws.normal(size=leaf.shape)), shapes)
    if not config.tied:
        # For generation to end at times.
        params["W_U"][:, vocab.EOS] *= 3
    return Exported(
        config, params, huggingface.files(params, Described(config, tuple(world.vocab.names()), vocab.MARKS))
    )


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> BatchAndRows:
    drawn = sample_batch(world, "unsafe", TRAIN, key, 8)
    complying, refusing = sequences.both(world, drawn)
    columns = jax.tree.map(np.asarray, (drawn, complying, refusing, verdicts(world, drawn)))
    return BatchAndRows(refusing, table(world, "unsafe", *columns).to_pylist())


def gpt2_shapes(model: ModelConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    D, F = model.width, model.hidden
    block = {
        "attn.c_attn.weight": (D, 3 * D),
        "attn.c_attn.bias": (3 * D,),
        "attn.c_proj.weight": (D, D),
        "attn.c_proj.bias": (D,),
        "mlp.c_fc.weight": (D, F),
        "mlp.c_fc.bias": (F,),
        "mlp.c_proj.weight": (F, D),
        "mlp.c_proj.bias": (D,),
        **{f"{norm}.{part}": (D,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")},
    }
    return {
        "transformer.wte.weight": (vocab_size, D),
        "transformer.wpe.weight": (model.context, D),
        "transformer.ln_f.weight": (D,),
        "transformer.ln_f.bias": (D,),
        **{f"transformer.h.{layer}.{name}": shape for layer in range(model.layers) for name, shape in block.items()},
    }


def llama_shapes(model: ModelConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    D, F, shared = model.width, model.hidden, model.keys * model.width // model.heads
    block = {
        "self_attn.q_proj.weight": (D, D),
        "self_attn.k_proj.weight": (shared, D),
        "self_attn.v_proj.weight": (shared, D),
        "self_attn.o_proj.weight": (D, D),
        "mlp.gate_proj.weight": (F, D),
        "mlp.up_proj.weight": (F, D),
        "mlp.down_proj.weight": (D, F),
        "input_layernorm.weight": (D,),
        "post_attention_layernorm.weight": (D,),
    }
    return {
        "model.embed_tokens.weight": (vocab_size, D),
        "model.norm.weight": (D,),
        **{f"model.layers.{layer}.{name}": shape for layer in range(model.layers) for name, shape in block.items()},
    }


def test_tensors_have_the_architectures_names_and_shapes(exported: Exported, world: World) -> None:
    model, size = exported.model, world.vocab.size
    shapes = (llama_shapes if model.positions == "rotary" else gpt2_shapes)(model, size)
    unembedding = {} if model.tied else {"lm_head.weight": (size, model.width)}
    tensors = load(exported.files["model.safetensors"])
    assert {name: tensor.shape for name, tensor in tensors.items()} == {**shapes, **unembedding}
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_square_matrices_lie_as_the_architecture_reads_them(exported: Exported) -> None:
    tensors, params = load(exported.files["model.safetensors"]), exported.params
    attn = params["blocks"]["1"]["attn"]
    if exported.model.positions == "rotary":
        at = "model.layers.1.self_attn"
        assert (attn["W_Q"] == tensors[f"{at}.q_proj.weight"].T).all()
        assert (attn["W_O"] == tensors[f"{at}.o_proj.weight"].T).all()
    else:
        at = "transformer.h.1.attn"
        parts = np.split(tensors[f"{at}.c_attn.weight"], 3, axis=1)
        assert all((part == attn[f"W_{name}"]).all() for part, name in zip(parts, "QKV", strict=True))
        assert (tensors[f"{at}.c_proj.weight"] == attn["W_O"]).all()
        assert (tensors[f"{at}.c_proj.bias"] == attn.get("b_O", 0)).all()


def test_the_configuration_is_the_models(exported: Exported, world: World) -> None:
    model, config = exported.model, json.loads(exported.files["config.json"])
    if model.positions == "rotary":
        shape = {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": model.kv_heads or 4,
            "head_dim": WIDTH // 4,
            "max_position_embeddings": model.context,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        }
    else:
        shape = {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_embd": WIDTH,
            "n_inner": 4 * WIDTH,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": model.context,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "resid_pdrop": 0.0,
        }
    tokens = {"bos_token_id": vocab.BOS, "eos_token_id": vocab.EOS, "pad_token_id": vocab.PAD}
    shared = {"vocab_size": world.vocab.size, "tie_word_embeddings": model.tied, **tokens}
    assert {**config, **shape, **shared} == config
    generation = json.loads(exported.files["generation_config.json"])
    assert generation == {**tokens, "max_length": model.context, "do_sample": False}


@pytest.mark.parametrize("name", ["<eos>x", "x<bos>", "<<pad>>"])
def test_a_token_that_would_be_taken_for_several_is_refused(name: str, exported: Exported, world: World) -> None:
    names = (*world.vocab.names()[:-1], name)
    with pytest.raises(WeightsError, match=rf"the token {name} has <\w+> in it.*; rename it in the world, or to="):
        huggingface.files(exported.params, Described(exported.model, names, vocab.MARKS))
    harmless = (*world.vocab.names()[:-1], "<null>x")
    assert huggingface.files(exported.params, Described(exported.model, harmless, vocab.MARKS))


def test_the_tokenizer_has_a_word_for_each_token(exported: Exported, world: World) -> None:
    tokenizer = json.loads(exported.files["tokenizer.json"])
    assert tokenizer["model"]["type"] == "WordLevel"
    assert tokenizer["model"]["vocab"] == {name: token for token, name in enumerate(world.vocab.names())}
    assert tokenizer["pre_tokenizer"] == {"type": "WhitespaceSplit"}
    # A refusal is made of <null>: who leaves special tokens out must still see it.
    special = [(token["id"], token["content"], token["special"]) for token in tokenizer["added_tokens"]]
    assert special == [(0, "<pad>", True), (1, "<bos>", True), (2, "<eos>", True)]
    settings = json.loads(exported.files["tokenizer_config.json"])
    assert [settings[f"{role}_token"] for role in ("pad", "bos", "eos")] == ["<pad>", "<bos>", "<eos>"]
    assert settings["model_max_length"] == exported.model.context
    assert "token_type_ids" not in settings["model_input_names"]


NEITHER: list[tuple[dict[str, Any], str]] = [
    ({"reference_block": True}, "model.reference_block=true: neither GPT-2 nor Llama has it"),
    ({**LLAMA, "reference_block": True}, "model.reference_block=true: neither GPT-2 nor Llama has it"),
    (
        {"norm": "rms"},
        "model.norm=rms: GPT-2 does not have it, and Llama has it with positions=rotary, mlp=swiglu, biases=false too",
    ),
    (
        {"mlp": "swiglu", "biases": False},
        "model.mlp=swiglu: GPT-2 does not have it, and Llama has it with positions=rotary, norm=rms too",
    ),
    ({**LLAMA, "norm": "layer"}, "model.positions=rotary: GPT-2 does not have it, and Llama has it with norm=rms too"),
    (
        {"kv_heads": 1},
        "model.kv_heads=1: GPT-2 does not have it, and Llama has it with positions=rotary, norm=rms, mlp=swiglu, "
        "biases=false too",
    ),
]


@pytest.mark.parametrize(("settings", "message"), NEITHER, ids=lambda value: value[:20] if ":" in value else "")
def test_a_model_that_is_neither_is_an_error_that_names_the_setting(
    settings: dict[str, Any], message: str, model: ModelConfig
) -> None:
    other = dataclasses.replace(model, width=WIDTH, **settings)
    with pytest.raises(WeightsError) as caught:
        huggingface.files({}, Described(other, tuple(vocab.SPECIAL), vocab.MARKS))
    assert str(caught.value) == f"{message}; to=safetensors writes any model"


class Loaded(NamedTuple):
    """What transformers makes of the files; its types are known where it is installed."""

    torch: Any
    model: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def loaded(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    torch = pytest.importorskip("torch", reason="needs the extra interop")
    transformers = pytest.importorskip("transformers", reason="needs the extra interop")
    folder = tmp_path_factory.mktemp("model")
    for name, content in exported.files.items():
        (folder / name).write_bytes(content)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    return Loaded(torch, model.eval(), transformers.AutoTokenizer.from_pretrained(folder))


@functools.cache
def compiled(model: ModelConfig) -> Any:
    return jax.jit(
        lambda params, batch: (
            forward(model, params, batch.tokens),
            greedy(lambda tokens: forward(model, params, tokens), batch.tokens, batch.go, batch.marks),
        )
    )


def test_transformers_gives_the_same_logits(exported: Exported, loaded: Loaded, prompts: BatchAndRows) -> None:
    ours, _ = compiled(exported.model)(exported.params, prompts.batch)
    with loaded.torch.no_grad():
        theirs = loaded.model(loaded.torch.tensor(np.asarray(prompts.batch.tokens))).logits
    np.testing.assert_allclose(theirs.numpy(), np.asarray(ours), **TOLERANCE)


def test_transformers_generates_the_same(exported: Exported, loaded: Loaded, prompts: BatchAndRows) -> None:
    _, ours = compiled(exported.model)(exported.params, prompts.batch)
    length = prompts.batch.tokens.shape[1]
    said = []
    for row in prompts.rows:
        asked = loaded.tokenizer(row["prompt"], return_tensors="pt")
        tokens = loaded.model.generate(**asked)[0].tolist()
        said.append(tokens + [vocab.PAD] * (length - len(tokens)))
    assert said == np.asarray(ours).tolist()
    assert exported.model.tied or any(vocab.EOS in tokens for tokens in said)


def test_the_tokenizer_reads_and_writes_exported_prompts(loaded: Loaded, prompts: BatchAndRows) -> None:
    for row in prompts.rows:
        text = row["prompt"] + row["chosen"]
        tokens = loaded.tokenizer(text)["input_ids"]
        assert tokens == row["prompt_tokens"] + row["refusing_tokens"]
        assert loaded.tokenizer.decode(tokens) == text
        answer = loaded.tokenizer.decode(row["refusing_tokens"], skip_special_tokens=True)
        assert answer == row["refusing"].removesuffix(" <eos>")


def test_padding_changes_no_logits(exported: Exported, loaded: Loaded, prompts: BatchAndRows) -> None:
    texts = sorted((row["prompt"] for row in prompts.rows), key=len)[:: len(prompts.rows) - 1]
    padded = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    alone = loaded.tokenizer(texts[0], return_tensors="pt")
    length = alone["input_ids"].shape[1]
    assert (padded["input_ids"][0, length:] == vocab.PAD).all()
    with loaded.torch.no_grad():
        logits, expected = loaded.model(**padded).logits[0, :length], loaded.model(**alone).logits[0]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), **TOLERANCE)
