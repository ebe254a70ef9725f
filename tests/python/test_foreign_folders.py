"""What people name that is no checkpoint says what it is, in one line, to the program and to Python alike; and what transformers loads though
it is odd, loads with transformers' numbers and a note. Beside each other: what transformers itself does with the folder."""
import json
import shutil
import warnings
from dataclasses import dataclass, field
from typing import Callable

import hostile_files as f
import pytest
from hf_reference import max_difference
from parity import TOLERANCE, assert_lively
from safetensors.torch import load_file, save_file
from tessera_package import need_package

tessera_package = need_package()
torch = pytest.importorskip("torch")
from tiny_checkpoints import MULTIMODAL, TRAITS, make, make_multimodal  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

WEIGHTS, INDEX, TOKENIZER = "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
IDS = [2, 11, 23, 42, 9, 77, 50, 3, 64, 31]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 987654321\n"
ADAPTER = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "acme/base-7b", "r": 8})


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


def only(**files):
    """Nothing but these files, whose names have "__" for a dot."""
    return f.all_of(emptied, *(f.write(name.replace("__", "."), content) for name, content in files.items()))


def renamed(old, new):
    return lambda folder: (folder / old).rename(folder / new)


def retensored(use, **config):
    """Other tensors, made of the checkpoint's own by `use`, and fields of config.json."""
    def change(folder):
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        save_file({name: tensor.clone() for name, tensor in use(tensors).items()}, folder / WEIGHTS, metadata={"format": "pt"})
        f.config(**config)(folder)
    return change


def quantised(part, **tensors):
    """The q_proj's in place of which a format of quantised weights has `tensors`: ending -> dtype."""
    def use(all_tensors):
        others = {name: tensor for name, tensor in all_tensors.items() if not name.endswith(part)}
        for name in set(all_tensors) - set(others):
            others.update({name.removesuffix("weight") + end.replace("__", "."): torch.zeros(8, 9, dtype=dtype) for end, dtype in tensors.items()})
        return others
    return retensored(use)


def moved_below(*parts):
    def change(folder):
        whole = folder.with_name(folder.name + "-whole")
        folder.rename(whole)
        below = folder.joinpath(*parts)
        below.parent.mkdir(parents=True)
        whole.rename(below)
    return change


def without_weights(*more):
    return f.all_of(f.remove(WEIGHTS), *more)


@dataclass
class Refused:
    name: str
    change: Callable
    words: list
    base: str = "gemma"
    transformers_too: bool = True  # whether AutoModelForCausalLM, or AutoTokenizer for a tokenizer's row, refuses it as well


MERGE = "merge_and_unload"
REFUSED = [
    Refused("weights that are a pointer", f.write(WEIGHTS, POINTER), [f"{WEIGHTS}: is a pointer of git-lfs", "git lfs pull"]),
    Refused("a shard that is a pointer", f.write(f.SHARDS[1], POINTER), [f"{f.SHARDS[1]}: is a pointer of git-lfs"], base="sharded"),
    Refused("an index that is a pointer", f.write(INDEX, POINTER), [f"{INDEX}: is a pointer of git-lfs"], base="sharded"),
    Refused("a config that is a pointer", f.write("config.json", POINTER), ["config.json: is a pointer of git-lfs"]),
    Refused("a tokenizer that is a pointer", f.write(TOKENIZER, POINTER), [f"{TOKENIZER}: is a pointer of git-lfs", "git lfs pull"]),
    Refused("only SentencePiece's tokenizer", renamed(TOKENIZER, "tokenizer.model"),
            [f"{TOKENIZER}: is not there, but tokenizer.model", "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"]),
    Refused("an adapter", only(adapter_config__json=ADAPTER, adapter_model__safetensors="x", tokenizer__json="{}"),
            ['only "adapter_config.json": an adapter of peft', MERGE, 'its base is "acme/base-7b"']),
    Refused("an adapter with its base's config", without_weights(f.write("adapter_config.json", ADAPTER), f.write("adapter_model.safetensors", "x")),
            ['only "adapter_config.json": an adapter of peft', MERGE, 'its base is "acme/base-7b"']),
    Refused("an adapter whose config is broken", only(adapter_config__json="{", adapter_model__bin="x"),
            ['only "adapter_config.json": an adapter of peft', MERGE]),
    Refused("only GGUF", only(model_Q4_K_M__gguf="GGUF", README__md="x"), ['only "model_Q4_K_M.gguf": GGUF is not supported', "take the checkpoint"]),
    Refused("GGUF with a config", without_weights(f.write("x.gguf", "GGUF")), ['has no model.safetensors, only "x.gguf": GGUF is not supported']),
    Refused("shards without their index", f.remove(INDEX), [f'only "{f.SHARDS[0]}": shards without their index', f"download {INDEX}"], base="sharded"),
    Refused("a variant", renamed(WEIGHTS, "model.fp16.safetensors"), ['only "model.fp16.safetensors": a variant', f"rename it to {WEIGHTS}"]),
    Refused("a variant's shards", renamed(INDEX, "model.safetensors.index.fp16.json"),
            ['only "model.safetensors.index.fp16.json": a variant\'s index', f"rename it to {INDEX}"], base="sharded"),
    Refused("a variant's shards without an index", f.all_of(f.remove(INDEX), renamed(f.SHARDS[0], "model.fp16-00001-of-00002.safetensors")),
            [f'only "{f.SHARDS[1]}": shards without their index'], base="sharded"),
    Refused("another name", renamed(WEIGHTS, "weights.safetensors"), ['only "weights.safetensors": if it holds the whole model, rename it']),
    Refused("Mistral's layout", renamed(WEIGHTS, "consolidated.safetensors"), ['only "consolidated.safetensors": the original layout', "convert"]),
    Refused("Meta's layout", only(params__json="{}", **{"consolidated.00__pth": "x"}), ['only "consolidated.00.pth": the original layout', "convert"]),
    Refused("only a pickle", without_weights(f.write("pytorch_model.bin", "x")), ['only "pytorch_model.bin": pickle is not supported', "save_pretrained"]),
    Refused("only pickles", without_weights(f.write("pytorch_model-00001-of-00002.bin", "x"), f.write("pytorch_model.bin.index.json", "{}")),
            ['only "pytorch_model-00001-of-00002.bin": pickle is not supported']),
    *(Refused(f"only {what}", without_weights(f.write(name, "x")), [f'only "{name}": {what}']) for what, name in
      (("ONNX", "model.onnx"), ("TensorFlow", "tf_model.h5"), ("Flax", "flax_model.msgpack"))),
    *(Refused(f"quantised by {method}", f.config(quantization_config={"quant_method": method, "bits": 4}),
              ["quantization_config", f'quantised by "{method}" is not supported', "take the original checkpoint"]) for method in ("gptq", "awq")),
    Refused("quantised by bitsandbytes", f.config(quantization_config={"load_in_4bit": True}), ["quantised by bitsandbytes is not supported"]),
    Refused("quantised by MLX", f.config(quantization={"group_size": 64, "bits": 4}, quantization_config={"group_size": 64, "bits": 4}),
            ["config.json: quantization is", "quantised by MLX is not supported", "take the original checkpoint"]),
    *(Refused(f"{method}'s tensors, and a config that is silent", quantised("q_proj.weight", **tensors),
              [f'.self_attn.q_proj.{next(iter(tensors)).replace("__", ".")}" is of weights quantised by {method}', "take the original checkpoint"],
              transformers_too="weight" in tensors) for method, tensors in (  # else it makes weights up
        ("GPTQ or AWQ", {"qweight": torch.int32, "qzeros": torch.int32, "scales": torch.float16, "g_idx": torch.int32}),
        ("bitsandbytes", {"weight__absmax": torch.float32, "weight": torch.uint8}),
        ("MLX", {"scales": torch.bfloat16, "biases": torch.bfloat16, "weight": torch.uint32}),
        ("compressed-tensors", {"weight_packed": torch.int32, "weight_scale": torch.bfloat16}),
        ("FP8", {"weight_scale_inv": torch.float32, "weight": torch.float8_e4m3fn}))),
    Refused("a classifier of the family", f.config(architectures=["Gemma3TextForSequenceClassification"]),
            ['"Gemma3TextForSequenceClassification" is not supported', "these are: Gemma3ForCausalLM, Gemma3TextModel"], transformers_too=False),
    Refused("a vision tower", f.config(architectures=["SiglipVisionModel"], model_type="siglip_vision_model"),
            ['"SiglipVisionModel" is not supported', "these are: ArceeForCausalLM, "]),
    Refused("a model of embeddings of the family", f.config(use_bidirectional_attention=True, architectures=["Gemma3TextModel"]),
            ["use_bidirectional_attention is true", "a model of embeddings is not supported"], transformers_too=False),
    Refused("a model of sentence-transformers with the model in a folder", f.all_of(moved_below("0_Transformer"), f.write("modules.json", "[]")),
            ["has no config.json", 'its "0_Transformer" has one: name that directory']),
    Refused("diffusers", only(model_index__json="{}"), ['only "model_index.json": a pipeline of diffusers makes images']),
    Refused("an empty folder", emptied, ["is empty, with no config.json: name the directory"]),
    Refused("a folder too high", moved_below("checkpoint-10"), ["has no config.json", 'its "checkpoint-10" has one: name that directory']),
    Refused("a repository of the hub's cache", f.all_of(moved_below("snapshots", "0123abcd"), f.write("README", "x")),
            ["has no config.json", 'its "snapshots/0123abcd" has one: name that directory']),
    Refused("a download without a config", f.remove("config.json"), ["config.json: is not there", "its download is incomplete"]),
    Refused("a download without weights", f.remove(WEIGHTS), ["neither model.safetensors nor model.safetensors.index.json"]),
    Refused("an untied model without its head", retensored(lambda t: {n: w for n, w in t.items() if n != "lm_head.weight"}),
            ['lacks tensor lm_head.weight', "saved without its head"], base="untied", transformers_too=False),
    Refused("an untied bare model", retensored(lambda t: bare(t), architectures=["LlamaModel"]),
            ['lacks tensor lm_head.weight', "saved without its head"], base="untied", transformers_too=False),
    Refused("a wrapper's names", retensored(lambda t: {f"module.{n}": w for n, w in t.items()}),
            ['lacks tensor "model.embed_tokens.weight"', 'it has "module.model.embed_tokens.weight"'], transformers_too=False),
    Refused("an adapter that was not merged", retensored(lambda t: {n.replace("q_proj.weight", "q_proj.base_layer.weight"): w for n, w in t.items()}),
            ['"model.layers.0.self_attn.q_proj.base_layer.weight" is of a model that an adapter of peft wraps', MERGE], transformers_too=False),
    Refused("biases that config.json does not know", retensored(lambda t: {**t, "model.layers.1.self_attn.q_proj.bias": torch.ones(4)}),
            ["does not use", '"model.layers.1.self_attn.q_proj.bias"', "config.json does not describe it"], transformers_too=False),
]


def bare(tensors):
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def plus(*names, dtype=torch.bfloat16):
    return retensored(lambda tensors: {**tensors, **{name: torch.ones(3, 4, dtype=dtype) for name in names}})


def of_the_multimodal_model(tensors):
    """As Gemma3Model.save_pretrained names them."""
    named = {name.replace("language_model.model.", "language_model.").removeprefix("model."): w for name, w in tensors.items()}
    return {name: tensor for name, tensor in named.items() if "lm_head" not in name}


@dataclass
class Loaded:
    name: str
    change: Callable
    base: str = "tied"
    unexpected: list = field(default_factory=list)  # the tensors that transformers calls so
    note: str = ""  # what is said, and said of nothing else


LOADED = [
    Loaded("a bare Llama, tied", retensored(bare, architectures=["LlamaModel"])),
    Loaded("a bare Gemma 3", retensored(bare, architectures=["Gemma3TextModel"]), base="gemma"),
    Loaded("a bare Phi-3 with a head", retensored(lambda t: {n.removeprefix("model."): w for n, w in t.items()}, architectures=["Phi3Model"]), base="phi"),
    Loaded("a bare multimodal Gemma 3", retensored(of_the_multimodal_model, architectures=["Gemma3Model"]), base="multimodal"),
    Loaded("a bare name alone", f.config(architectures=["LlamaModel"])),
    Loaded("bare tensors alone", retensored(bare)),
    Loaded("one layer's tensors bare", retensored(lambda t: {n.removeprefix("model.") if "layers.0" in n else n: w for n, w in t.items()})),
    Loaded("a prefix twice", retensored(lambda t: {f"model.{n}": w for n, w in t.items()})),
    Loaded("a bare model with a head", retensored(lambda t: {n.removeprefix("model."): w for n, w in t.items()}, architectures=["LlamaModel"]),
           base="untied"),
    Loaded("no architectures", f.config(architectures=[])),
    Loaded("a value head", plus("v_head.summary.weight", "v_head.summary.bias", dtype=torch.float32),
           unexpected=["v_head.summary.bias", "v_head.summary.weight"]),
    Loaded("a classifier's head", plus("score.weight"), unexpected=["score.weight"]),
    Loaded("leftovers of an adapter", plus("model.layers.0.self_attn.q_proj.lora_A.weight", "base_model.model.layers.0.self_attn.q_proj.lora_B.weight"),
           unexpected=["base_model.model.layers.0.self_attn.q_proj.lora_B.weight", "model.layers.0.self_attn.q_proj.lora_A.weight"]),
    Loaded("rotary buffers", plus("model.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq")),
    Loaded("other buffers", plus("model.layers.0.self_attn.rotary_emb.cos_cached", "model.layers.2.self_attn.masked_bias"),
           unexpected=["model.layers.0.self_attn.rotary_emb.cos_cached", "model.layers.2.self_attn.masked_bias"]),
    Loaded("a pickle beside safetensors", f.write("pytorch_model.bin", "x")),
    Loaded("GGUF beside safetensors", f.write("model.gguf", "GGUF")),
    Loaded("a pointer that is not read", f.write("consolidated.safetensors", POINTER)),
    Loaded("a model of sentence-transformers", f.all_of(retensored(bare, architectures=["LlamaModel"]), f.write("modules.json", "[]")),
           note="modules.json: a model of sentence-transformers, which is run as a language model: its pooling is not applied"),
    Loaded("a variant's shards after the advice",
           f.all_of(*(renamed(shard, shard.replace("model", "model.fp16")) for shard in f.SHARDS),
                    f.edit(INDEX, lambda index: index.update(weight_map={n: s.replace("model", "model.fp16") for n, s in index["weight_map"].items()})),
                    renamed(INDEX, "model.safetensors.index.fp16.json"), renamed("model.safetensors.index.fp16.json", INDEX)), base="sharded"),
]


@pytest.fixture(scope="module")
def sources(bases, tmp_path_factory):
    """`bases`, a tied and an untied Llama, and a multimodal Gemma 3 in one file."""
    folder = tmp_path_factory.mktemp("sources")
    tied, untied = make(folder / "tied", TRAITS["llama-tied"]), make(folder / "untied", TRAITS["llama-plain"])
    multimodal = make_multimodal(folder / "multimodal", "hub", shards=1)
    (multimodal / INDEX).unlink()
    (multimodal / "model-00001-of-00001.safetensors").rename(multimodal / WEIGHTS)
    for made in tied, untied:
        shutil.copy(bases["gemma"] / TOKENIZER, made)
    return {**bases, "tied": tied, "untied": untied, "multimodal": multimodal}


def changed(sources, row, tmp_path):
    folder = shutil.copytree(sources[row.base], tmp_path / "folder")
    row.change(folder)
    return folder


def rows(table):
    return [pytest.param(row, id=row.name) for row in table]


@pytest.fixture(scope="module")
def counts(measured):
    seen = {"refused": [], "loaded": []}
    yield seen
    for what, transformers in seen.items():
        if transformers:
            measured(f"foreign folders: {len(transformers)} {what}, {sum(transformers)} of them by transformers too")


def transformers_refuses(folder, is_tokenizer):
    try:
        loads = AutoTokenizer if is_tokenizer else AutoModelForCausalLM
        loads.from_pretrained(folder, local_files_only=True)
    except Exception:
        return True
    return False


@pytest.mark.parametrize("row", rows(REFUSED))
def test_what_is_no_checkpoint_says_what_it_is(tessera, sources, tmp_path, counts, row):
    folder = changed(sources, row, tmp_path)
    done = tessera.run("run", "-m", folder, "-p", "ab", "-n", 1, expect=3)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tessera: ") and len(lines[0]) < 700, done.stderr
    is_tokenizer = "tokenizer" in row.name
    with pytest.raises(tessera_package.FileError) as raised:
        if is_tokenizer:
            tessera_package.Checkpoint.open(str(folder)).tokenizer()
        else:
            tessera_package.from_pretrained(folder)
    for word in row.words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
        assert word in str(raised.value), f"{word!r} is not in: {raised.value}"
    refuses = transformers_refuses(folder, is_tokenizer)
    counts["refused"].append(refuses)
    assert refuses == row.transformers_too


@pytest.mark.parametrize("row", rows(LOADED))
def test_what_transformers_loads_though_it_is_odd_has_its_numbers_and_a_note(tessera, hf, sources, tmp_path, counts, row):
    folder = changed(sources, row, tmp_path)
    told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)[1]
    assert not told["missing_keys"] and sorted(told["unexpected_keys"]) == row.unexpected
    note = row.note or row.unexpected and (f'the checkpoint holds {len(row.unexpected)} tensors that the model does not use, "{row.unexpected[0]}" first; '
                                           "they are ignored, as transformers does")
    done = tessera.run("run", "-m", folder, "--ids-file", f_ids(tmp_path), "--print-ids", "-n", 0)
    notes = [line for line in done.stderr.splitlines() if line.startswith("tessera: note: ")]
    assert len(notes) == bool(note) and all(line.endswith(note) for line in notes), done.stderr
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model = tessera_package.from_pretrained(folder)
    warnings_here = [str(warning.message) for warning in warned if warning.filename == __file__]
    assert len(warnings_here) == bool(note) and all(text.endswith(note) for text in warnings_here)
    assert model.engine.loaded.options.weights == "bfloat16"  # what is ignored does not choose the type
    reference = hf.logits(folder, IDS) if row.base != "multimodal" else logits_of(hf.model(folder))
    assert_lively(reference)
    difference, at = max_difference(tessera.logits(folder, IDS), reference)
    counts["loaded"].append(True)
    assert difference <= TOLERANCE, f"row {at}"


def f_ids(folder):
    path = folder / "ids.json"
    path.write_text(json.dumps(IDS))
    return path


@torch.no_grad()
def logits_of(model):
    return model(input_ids=torch.tensor([IDS])).logits[0].numpy()


def test_an_adapter_beside_a_whole_model_is_said_not_to_be_applied(tessera, sources, tmp_path):
    """transformers, with peft, would load the base that the adapter names, and apply it: nothing to compare with here."""
    folder = shutil.copytree(sources["tied"], tmp_path / "folder")
    f.all_of(f.write("adapter_config.json", ADAPTER), f.write("adapter_model.safetensors", "x"))(folder)
    done = tessera.run("run", "-m", folder, "-p", "ab", "-n", 1, "--temp", 0)
    assert 'adapter_config.json: the adapter is not applied (its base is "acme/base-7b")' in done.stderr


@pytest.mark.parametrize("name, words", [
    ("model-Q4_K_M.gguf", "GGUF is not supported"), ("pytorch_model.bin", "pickle is not supported"), ("adapter_config.json", "an adapter of peft is no model by itself"),
    ("model.safetensors", "is not a directory: name the directory"), ("config.json", "is not a directory: name the directory")])
def test_a_file_that_is_named_says_what_it_is(tessera, tmp_path, name, words):
    (tmp_path / name).write_text("x")
    assert f"{name}: {words}" in tessera.run("inspect", "-m", tmp_path / name, expect=3).stderr
    with pytest.raises(tessera_package.FileError, match=words):
        tessera_package.from_pretrained(tmp_path / name)
