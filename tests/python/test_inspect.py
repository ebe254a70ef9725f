"""`tessera inspect` against the checkpoints' own files, Hugging Face's configs, and the memory layout written out once more."""
import json
import math
import os
import shutil
import struct

import pytest
import torch
from tiny_checkpoints import TRAITS, make, make_multimodal
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

VALUE_BYTES = {"float32": 4, "bfloat16": 2}


def inspect(tessera, checkpoint, *arguments):
    return json.loads(tessera.run("inspect", "-m", checkpoint, "--json", "-", *arguments).stdout)


def header(checkpoint):
    with open(checkpoint / "model.safetensors", "rb") as file:
        tensors = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    tensors.pop("__metadata__", None)
    return tensors


def packed_bytes(kind, out, inputs):
    """Panels of 64 outputs, each in blocks of 64 inputs; block formats have an exponent for 16 outputs of each input."""
    values = math.ceil(out / 64) * math.ceil(inputs / 64) * 64 * 64
    if kind in VALUE_BYTES:
        return values * VALUE_BYTES[kind]
    return values // {"bfloat8_b": 1, "bfloat4_b": 2}[kind] + values // 16


def sparse_layers(config):
    """Of each layer: whether it has experts."""
    if not hasattr(config, "num_experts"):
        return [False] * config.num_hidden_layers
    dense, step = getattr(config, "mlp_only_layers", []), getattr(config, "decoder_sparse_step", 1)
    return [layer not in dense and (layer + 1) % step == 0 for layer in range(config.num_hidden_layers)]


def moe_width(config):
    return getattr(config, "moe_intermediate_size", config.intermediate_size)


def mixture_bytes(config, kind, router):
    """Each expert begins a panel."""
    hidden, inner = config.hidden_size, moe_width(config)
    return packed_bytes(router, config.num_experts, hidden) + config.num_experts * (packed_bytes(kind, 2 * inner, hidden) + packed_bytes(kind, hidden, inner))


def weight_bytes(config, kind, stored_exactly, biases):
    """Of a model with joined q|k|v and gate|up, from its config and the number of its biases alone."""
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head_dim = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    kind = "bfloat16" if kind == "float32" and stored_exactly else kind
    lookup = "bfloat16" if kind not in VALUE_BYTES else kind
    attention = packed_bytes(kind, (heads + 2 * kv_heads) * head_dim, hidden) + packed_bytes(kind, hidden, heads * head_dim)
    mlp = packed_bytes(kind, (1 if config.model_type == "arcee" else 2) * inner, hidden) + packed_bytes(kind, hidden, inner)
    total = layers * attention + packed_bytes(kind, config.vocab_size, hidden)
    total += sum(mixture_bytes(config, kind, lookup) if sparse else mlp for sparse in sparse_layers(config))
    if not config.tie_word_embeddings:
        total += packed_bytes(lookup, config.vocab_size, hidden)
    norms = {"gemma2": 4 * hidden, "gemma3_text": 4 * hidden + 2 * head_dim}.get(config.model_type, 2 * hidden)
    if config.model_type in ("qwen3", "qwen3_moe"):
        norms += 2 * head_dim
    if config.model_type in ("olmo2", "olmo3", "olmoe"):
        norms += (heads + kv_heads) * head_dim
    return total + 4 * (layers * norms + hidden + biases)


def cache_bytes(config, windows, kind, context):
    """Pages of 32 tokens; a windowed layer keeps its window, 64 tokens to take back, and a piece of 512."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    page = 32 * head_dim * VALUE_BYTES[kind] if kind in VALUE_BYTES else math.ceil((32 * head_dim + 32 * math.ceil(head_dim / 16)) / 64) * 64
    total = 0
    for window in windows:
        pages = math.ceil(context / 32) + 1
        if window:
            pages = min(pages, math.ceil((window + 64 + 512) / 32) + 2)
        total += pages * config.num_key_value_heads * 2 * page
    return total


def check(tessera, checkpoint):
    facts, config, tensors = inspect(tessera, checkpoint), AutoConfig.from_pretrained(checkpoint), header(checkpoint)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert facts["architecture"] == json.loads((checkpoint / "config.json").read_text())["architectures"][0]
    sparse = sparse_layers(config)
    assert facts["intermediate_size"] == (moe_width(config) if all(sparse) else config.intermediate_size)
    if any(sparse):
        assert (facts["num_experts"], facts["moe_intermediate_size"]) == (config.num_experts, moe_width(config))
    else:
        assert "num_experts" not in facts
    for field in ("hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "max_position_embeddings"):
        assert facts[field] == getattr(config, field), field
    assert facts["layers"] == config.num_hidden_layers
    assert facts["tied"] == config.tie_word_embeddings
    assert facts["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert facts["tensors"]["count"] == len(tensors)
    assert facts["tensors"]["bytes"] == sum(t["data_offsets"][1] - t["data_offsets"][0] for t in tensors.values())
    assert {kind: held["tensors"] for kind, held in facts["tensors"]["dtypes"].items()} == count(t["dtype"] for t in tensors.values())
    windows = [config.sliding_window if kind == "sliding_attention" else None for kind in getattr(config, "layer_types", None) or
               ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"] * config.num_hidden_layers]
    assert facts["windows"] == windows
    exact = all(t["dtype"] == "BF16" for t in tensors.values())
    biases = sum(weight.numel() for name, weight in model.named_parameters() if name.endswith("bias"))
    assert facts["weights_bytes"] == {kind: weight_bytes(config, kind, exact, biases) for kind in ("float32", "bfloat16", "bfloat8_b", "bfloat4_b")}
    most = config.max_position_embeddings
    assert [row["context"] for row in facts["cache_bytes"]] == sorted({min(context, most) for context in (1024, 4096, 32768)} | {most})
    for row in facts["cache_bytes"]:
        for kind in ("float32", "bfloat16", "bfloat8_b"):
            assert row[kind] == cache_bytes(config, windows, kind, row["context"]), (row["context"], kind)
    return facts


def count(values):
    numbers = {}
    for value in values:
        numbers[value] = numbers.get(value, 0) + 1
    return numbers


@pytest.mark.parametrize("name", ["gemma3_270m", "phi3_smollm2", "phi3_smollm2_longrope"])
def test_real_checkpoints_are_what_their_files_say(tessera, request, name):
    checkpoint = request.getfixturevalue(name)
    facts = check(tessera, checkpoint)
    config = json.loads((checkpoint / "generation_config.json").read_text())
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    ends = config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]]
    assert facts["generation"]["eos"] == [{"id": end, "text": tokenizer.id_to_token(end)} for end in ends]
    assert facts["generation"]["do_sample"] == config.get("do_sample", False)
    assert facts["generation"]["top_k"] == config.get("top_k", 50)
    has_template = (checkpoint / "chat_template.jinja").exists()
    assert facts["chat_template"] == ({"place": "chat_template.jinja", "roles": [], "tools": False} if has_template else None)
    assert facts["notes"] == []


@pytest.mark.parametrize("name", [name for name, row in TRAITS.items() if row.head == "as tied"])
def test_tiny_checkpoints_are_what_their_files_say(tessera, tmp_path, name):
    checkpoint = make(tmp_path / "tiny", TRAITS[name])
    facts = check(tessera, checkpoint)
    assert "tokenizer.json" in facts["notes"][0]
    assert facts["generation"]["eos"] == [{"id": 1, "text": None}]
    assert facts["chat_template"] is None


def test_ropes_are_what_the_config_says(tessera, tmp_path):
    gemma = make(tmp_path / "gemma", TRAITS["gemma3-linear-rope-old"])
    assert inspect(tessera, gemma)["ropes"] == [{"layers": "full", "type": "linear", "theta": 50000.0, "rotary_dim": 32, "factor": 8.0},
                                                {"layers": "sliding", "type": "default", "theta": 700.0, "rotary_dim": 32}]
    phi = make(tmp_path / "phi", TRAITS["phi3-longrope-old"])
    (rope,) = inspect(tessera, phi)["ropes"]
    assert (rope["type"], rope["original_max_position_embeddings"], rope["rotary_dim"]) == ("longrope", 32, 96)
    assert rope["attention_factor"] == pytest.approx(math.sqrt(1 + math.log(512 / 32) / math.log(32)), rel=1e-6)
    partial = make(tmp_path / "partial", TRAITS["phi3-partial-rotary-window-9"])
    assert inspect(tessera, partial)["ropes"] == [{"layers": "all", "type": "default", "theta": 10000.0, "rotary_dim": 48}]


def test_a_multimodal_checkpoint_counts_its_language_model_and_lists_all_tensors(tessera, tmp_path):
    checkpoint = make_multimodal(tmp_path / "tiny", "hub")
    facts = inspect(tessera, checkpoint, "--tensors")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(checkpoint))
    assert facts["architecture"] == "Gemma3ForConditionalGeneration"
    assert facts["parameters"] == sum(weight.numel() for weight in model.model.language_model.parameters())
    assert facts["tensors"]["count"] == len(facts["tensors"]["list"]) == len(list(model.parameters()))
    assert sum(t["name"].startswith("vision_tower.") for t in facts["tensors"]["list"]) == len(list(model.model.vision_tower.parameters()))
    assert [end["id"] for end in facts["generation"]["eos"]] == [1]


def test_the_text_shows_the_same_facts(tessera, gemma3_270m):
    text = tessera.run("inspect", "-m", gemma3_270m, "--tensors").stdout
    for part in ("Gemma3ForCausalLM", "18, 15 of them with a window of 512", "4 of 256 values, 1 of keys and values", "262144, the head tied to the embedding",
                 "268098176", "236 in BF16, 536.2 MB", '1 "<eos>"', "theta 1000000", "top_k 64", '"model.layers.17.self_attn.q_norm.weight" BF16 [256] 512'):
        assert part in text, part


def phi3_mini(folder):
    """Phi-3-mini's layout, 7.6 GB of it holes in a sparse file."""
    folder.mkdir()
    hidden, inner, vocab, layers = 3072, 8192, 32064, 32
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    for i in range(layers):
        for name, shape in {"self_attn.qkv_proj": [3 * hidden, hidden], "self_attn.o_proj": [hidden, hidden], "mlp.gate_up_proj": [2 * inner, hidden],
                            "mlp.down_proj": [hidden, inner], "input_layernorm": [hidden], "post_attention_layernorm": [hidden]}.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    tensors, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * math.prod(shape)
        tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(tensors).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "max_position_embeddings": 131072, "sliding_window": 262144,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}}))
    return folder


def test_a_big_checkpoint_is_described_without_reading_its_weights(tessera, tmp_path):
    checkpoint = phi3_mini(tmp_path / "mini")
    before = os.times()
    facts = inspect(tessera, checkpoint)
    after = os.times()
    assert facts["parameters"] == 3821079552  # what its publisher calls 3.8B
    assert facts["weights_bytes"]["bfloat16"] == pytest.approx(2 * 3821079552, rel=1e-3)
    assert facts["cache_bytes"][-1]["bfloat16"] == pytest.approx(393216 * 131072, rel=1e-3)  # 393,216 bytes a token
    assert after.children_user + after.children_system - before.children_user - before.children_system < 5  # CPU seconds; the weights alone take more


@pytest.mark.parametrize("damage, said", [
    (lambda folder: (folder / "config.json").unlink(), "config.json"),
    (lambda folder: (folder / "config.json").write_text('{"architectures": ["BertModel"]}'), "these are: ArceeForCausalLM, "),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "model.safetensors"),
    (lambda folder: change(folder, num_hidden_layers=4), "model.layers.3"),
    (lambda folder: change(folder, intermediate_size=137), "gate_up_proj"),
    (lambda folder: change(folder, num_hidden_layers=2), "does not use"),
    (lambda folder: (folder / "generation_config.json").write_text('{"top_p": 2}'), "top_p is 2"),
])
def test_bad_checkpoints_are_refused(tessera, tmp_path, damage, said):
    checkpoint = make(tmp_path / "tiny", TRAITS["phi3-head-dim-96"])
    damage(checkpoint)
    assert said in tessera.run("inspect", "-m", checkpoint, expect=3).stderr


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_broken_tokenizer_is_a_note(tessera, phi3_smollm2, tmp_path):
    for file in phi3_smollm2.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{")
    facts = inspect(tessera, tmp_path)
    assert "tokenizer.json" in facts["notes"][0]
    assert facts["generation"]["eos"] == [{"id": 2, "text": None}]


def test_flags_are_checked(tessera, tmp_path):
    tessera.run("inspect", expect=2)
    tessera.run("inspect", "-m", tmp_path / "none", expect=3)
    tessera.run("inspect", "-m", "org/none", expect=3)
    tessera.run("inspect", "-m", tmp_path, "--weights", "bfloat16", expect=2)
    tiny = make(tmp_path / "tiny", TRAITS["phi3-head-dim-96"])
    tessera.run("inspect", "-m", tiny, "--json", tmp_path / "no" / "such.json", expect=3)
    shutil.rmtree(tiny)
