"""What can be wrong with a checkpoint's weights, its index and its config."""
import os
from dataclasses import dataclass, field
from typing import Callable, Optional

import hostile_files as f
from hostile_files import SHARDS

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"


@dataclass
class Case:
    number: int
    name: str
    bad: Callable
    words: list = field(default_factory=list)
    good: Optional[Callable] = None  # a change that must be accepted; the untouched checkpoint always is
    exit: int = 3
    base: str = "gemma"
    commands: tuple = ("run", "inspect")
    prompt: str = "abab"


def shape(value):
    return f.tensor(shape=value)


def raw(old, new):
    """One place of the header's text."""
    def replace(header):
        assert old in header, old
        return header.replace(old, new, 1)
    return f.weights(raw=replace)


def offsets(name, begin, end):
    """Moves one tensor's range, relative to where it is."""
    def use(header):
        at = header[name]["data_offsets"]
        at[0] += begin
        at[1] += end
    return f.weights(use)


def last_behind_a_hole(header):
    name = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    header[name]["data_offsets"] = [at + 8 for at in header[name]["data_offsets"]]


def all_moved(header):
    for name, tensor in header.items():
        if name != "__metadata__":
            tensor["data_offsets"] = [at + 8 for at in tensor["data_offsets"]]


def same_range_twice(header):
    header["vision_tower.x"] = dict(header[NORM])


def poisoned(value):
    """A norm's first weight replaced by these two bytes."""
    def change(folder):
        header, data = f.read_weights(folder / WEIGHTS)
        at = header[NORM]["data_offsets"][0]
        f.write_weights(folder / WEIGHTS, header, data[:at] + value + data[at + 2:])
    return change


def linked(name, target):
    def change(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    return change


def fifo(name):
    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    return change


def directory(name):
    def change(folder):
        (folder / name).unlink()
        (folder / name).mkdir()
    return change


def again(old, new=None):
    """The header's text `old` twice, the second time spelt `new`."""
    return raw(old, old + (new or old))


METADATA = b'"__metadata__": {"format": "pt"}, '
SAFETENSORS_CASES = [
    Case(1, "empty file", f.write(WEIGHTS, b""), [WEIGHTS, "is empty"]),
    Case(2, "seven bytes", f.write(WEIGHTS, b"1234567"), [WEIGHTS, "7 bytes"]),
    Case(3, "header of no bytes", f.weights(length=0), [WEIGHTS, "does not begin with '{'"]),
    Case(4, "header of 2^63 bytes", f.weights(length=1 << 63), [WEIGHTS, "9223372036854775808 is above 100000000"]),
    Case(4, "header of 2^64 - 1 bytes", f.weights(length=(1 << 64) - 1), [WEIGHTS, "18446744073709551615 is above 100000000"]),
    Case(5, "header of 100,000,001 bytes", f.weights(length=100_000_001), [WEIGHTS, "100000001 is above 100000000"]),
    Case(6, "header past the end", f.weights(length=1_000_000), [WEIGHTS, "1000000 reaches past the file's"]),
    Case(7, "header cut by a byte", f.weights(raw=lambda h: h[:-1]), [WEIGHTS, "header: not valid JSON"]),
    Case(8, "data a byte short", f.weights(data=lambda d: d[:-1]), [WEIGHTS, "but the file has only"]),
    Case(9, "a byte behind the data", f.weights(data=lambda d: d + b"x"), [WEIGHTS, "has 1 bytes after the last tensor, at byte"]),
    Case(10, "hole", f.weights(last_behind_a_hole, data=lambda d: d + bytes(8)), [WEIGHTS, "leaving a hole"]),
    Case(11, "first offset not 0", f.weights(all_moved, data=lambda d: bytes(8) + d), [WEIGHTS, "begin at 8, leaving a hole after 0"]),
    Case(12, "overlap", offsets(NORM, -2, -2), [WEIGHTS, f'"{NORM}"', "inside another tensor"]),
    Case(13, "two tensors of one range", f.weights(same_range_twice), [WEIGHTS, "inside another tensor"]),
    Case(14, "end before begin", f.tensor(data_offsets=[8, 0]), [WEIGHTS, f'"{NORM}": data_offsets [8, 0] end before they begin']),
    Case(15, "size is not shape times dtype", shape([73]), [WEIGHTS, f'"{NORM}": shape [73] of BF16 needs 146 bytes']),
    Case(16, "shape product overflows", shape([2**33, 2**33]),
         [WEIGHTS, f'"{NORM}": shape [8589934592, 8589934592] has too many elements']),
    *(Case(17, f"dimension {value!r}", shape([value]), [WEIGHTS, f'"{NORM}": shape holds']) for value in (2**64, -4, 4.0, "4", None)),
    *(Case(18, f"dtype {value}", f.tensor(dtype=value), [WEIGHTS, f'"{NORM}": unknown dtype "{value}"']) for value in ("F33", "bf16")),
    Case(19, "an odd count of half bytes", f.more_tensors(**{"vision_tower.x": ("F4", [3], 2)}), [WEIGHTS, "does not fill whole bytes"],
         good=f.more_tensors(**{"vision_tower.x": ("F4", [4], 2)})),
    Case(20, "name twice", raw(b'"model.norm.weight":', b'"model.layers.0.mlp.up_proj.weight":'), [WEIGHTS, "stands twice"]),
    Case(21, "metadata twice", again(METADATA), [WEIGHTS, '"__metadata__" stands twice'], good=raw(METADATA, b"")),
    Case(22, "metadata that is no text", raw(b'"pt"', b"1"), [WEIGHTS, "__metadata__ holds 1: only text"], good=raw(b'"pt"', b'"x"')),
    Case(23, "shape missing", f.weights(lambda h: h[NORM].pop("shape")), [WEIGHTS, f'"{NORM}": shape is missing']),
    Case(23, "three offsets", f.tensor(data_offsets=[0, 144, 144]), [WEIGHTS, f'"{NORM}": data_offsets holds 3 values, not begin and end']),
    Case(24, "leading space", f.weights(raw=lambda h: b" " + h), [WEIGHTS, "does not begin with '{'"]),
    Case(24, "byte-order mark", f.weights(raw=lambda h: b"\xef\xbb\xbf" + h), [WEIGHTS, "does not begin with '{'"]),
    Case(25, "NUL behind the header", f.weights(raw=lambda h: h + b"\0"), [WEIGHTS, "header: not valid JSON"],
         good=f.weights(raw=lambda h: h + b"   ")),
    Case(25, "junk behind the header", f.weights(raw=lambda h: h + b"x"), [WEIGHTS, "header: not valid JSON"]),
    Case(26, "name that is no UTF-8", raw(b"model.norm.weight", b"model.norm\xff"), [WEIGHTS, "header: not valid JSON"]),
    Case(26, "name with half a surrogate pair", raw(b"model.norm.weight", b"model.norm\\ud800"), [WEIGHTS, "header: not valid JSON"]),
    Case(27, "array for a header", f.weights(raw=lambda h: b"[]"), [WEIGHTS, "does not begin with '{'"]),
    Case(27, "nested 100,000 deep", raw(b'"dtype"', b'"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "dtype"'),
         [WEIGHTS, "nested more than"],
         good=raw(b'"dtype"', b'"x": [[]], "dtype"')),
    Case(28, "100,000 dimensions", shape([1] * 100_000), [WEIGHTS, "more than 8 dimensions"]),
    Case(29, "empty tensor, scalar and a name like a path that are not the model's",
         f.more_tensors(**{"empty": ("F32", [0], 0), "scalar": ("F32", [], 4)}), ["note: ", "2 tensors that the model does not use", '"empty"'], exit=0,
         good=f.more_tensors(**{"vision_tower.empty": ("F32", [0], 0), "vision_tower.scalar": ("F32", [], 4)})),
    Case(30, "a name like a path", f.more_tensors(**{"../../etc/x": ("U8", [1], 1)}), ["note: ", 'does not use, "../../etc/x"'], exit=0,
         good=f.more_tensors(**{"vision_tower../../../etc/x": ("U8", [1], 1)})),
    Case(30, "a name that writes to the terminal", f.more_tensors(**{"\x1b[2J\n\u202e\x9bx": ("U8", [1], 1)}),
         ["note: ", r'"\u001b[2J\n\u202e\u009bx"'], exit=0,
         good=f.more_tensors(**{"vision_tower.\x1b[2J\n": ("U8", [1], 1)})),
    Case(32, "NaN among the weights", poisoned(b"\xc0\x7f"), [f'"{NORM}" holds values that are not finite', "non-finite logits"], exit=1,
         commands=("run",)),
    Case(33, "FIFO", fifo(WEIGHTS), [WEIGHTS, "is not a regular file"]),
    Case(33, "directory", directory(WEIGHTS), [WEIGHTS, "is not a regular file"]),
    Case(33, "/dev/zero", linked(WEIGHTS, "/dev/zero"), [WEIGHTS, "is not a regular file"]),
    Case(33, "link to itself", linked(WEIGHTS, WEIGHTS), [WEIGHTS, "cannot be opened: Too many levels"]),
    Case(33, "link to nowhere", linked(WEIGHTS, "gone"), [WEIGHTS, "cannot be opened: No such file"]),
]


def sharded(number, name, bad, words, **more):
    return Case(number, name, bad, [INDEX, *words] if more.get("exit", 3) else words, base="sharded", **more)


def mapped(tensor, shard):
    return f.edit(INDEX, lambda index: index["weight_map"].__setitem__(tensor, shard))


def in_both_shards(folder):
    header, data = f.read_weights(folder / SHARDS[1])
    first, _ = f.read_weights(folder / SHARDS[0])
    name = next(name for name in first if name != "__metadata__")
    size = first[name]["data_offsets"][1] - first[name]["data_offsets"][0]
    header[name] = {**first[name], "data_offsets": [len(data), len(data) + size]}
    f.write_weights(folder / SHARDS[1], header, data + bytes(size))


def a_million_entries(index):
    index["weight_map"].update((f"x{i}", SHARDS[0]) for i in range(1_000_000))


def only_a_pickle(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def code_beside_it(architecture):
    def change(folder):
        (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
        f.config(auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"}, architectures=[architecture])(folder)
    return change


INDEX_CASES = [
    sharded(34, "shard missing", f.remove(SHARDS[1]), [f'weight_map names "{SHARDS[1]}", which is not there']),
    *(sharded(35, f"shard at {shard!r}", mapped(NORM, shard), [f'"{NORM}" is in', "not the name of a .safetensors file"])
      for shard in ("/etc/x.safetensors", "../x.safetensors", "a\0.safetensors", "a\n\x1b.safetensors", "", "x.bin")),
    Case(36, "tensor in both shards", in_both_shards, ["safetensors: tensor", 'is also in "model-0000'], base="sharded"),
    sharded(36, "tensor in the other shard", mapped(NORM, SHARDS[0]), [f'"{NORM}" is in "{SHARDS[0]}", but it is in "{SHARDS[1]}"']),
    sharded(37, "tensor in no shard", mapped("x", SHARDS[0]), ['"x" is in', "but it is not there"]),
    sharded(38, "wrong total_size", f.fields(INDEX, metadata={"total_size": 1}), ["note: ", "total_size is 1"], exit=0),
    sharded(39, "not JSON", f.write(INDEX, "{"), ["not valid JSON"]),
    sharded(39, "weight_map a list", f.fields(INDEX, weight_map=[]), ["weight_map is not an object"]),
    sharded(39, "weight_map empty", f.fields(INDEX, weight_map={}), ["weight_map is empty"]),
    sharded(39, "a shard's name a number", mapped(NORM, 1), [f'"{NORM}" is not a file name']),
    sharded(40, "a million entries", f.edit(INDEX, a_million_entries), ['"x0" is in', "but it is not there"]),
    sharded(41, "a shard too many", lambda folder: (folder / "more\x1b.safetensors").write_bytes(b"x"),
            ["note: ", r'"more\u001b.safetensors", which was ignored'], exit=0),
    Case(42, "only a pickle", only_a_pickle, ['only "pytorch_model.bin": pickle is not supported', "convert"]),
    Case(42, "no weights", f.remove(WEIGHTS), ["neither model.safetensors nor model.safetensors.index.json"]),
    Case(43, "code of an unknown architecture", code_beside_it("EvilForCausalLM"),
         ['"EvilForCausalLM" is not supported', "of the family gemma3_text these are: Gemma3ForCausalLM, Gemma3TextModel"],
         good=code_beside_it("Gemma3ForCausalLM")),
]

CONFIG = "config.json"
GENERATION = "generation_config.json"


def config(number, name, words, base="gemma", good=None, **values):
    return Case(number, name, f.config(**values), [CONFIG, *words], good=good and f.config(**good), base=base)


def factors(**values):
    return f.edit(CONFIG, lambda content: content["rope_scaling"].update(values))


CONFIG_CASES = [
    Case(44, "config missing", f.remove(CONFIG), [CONFIG, "is not there"]),
    Case(44, "config empty", f.write(CONFIG, ""), [CONFIG, "not valid JSON"]),
    Case(44, "config cut", f.write(CONFIG, '{"model_type": "gem'), [CONFIG, "not valid JSON"]),
    Case(44, "config above 16 MB", f.write(CONFIG, '{"x": "' + "x" * (16 << 20) + '"}'),
         [CONFIG, "16777225 bytes; at most 16777216 are read"]),
    Case(44, "config nested 100,000 deep", f.write(CONFIG, "[" * 100_000 + "]" * 100_000), [CONFIG, "nested more than 64 levels"]),
    Case(44, "FIFO for a config", fifo(CONFIG), [CONFIG, "is not a regular file"]),
    Case(44, "config that is a list", f.write(CONFIG, "[]"), [CONFIG, "is a list of 0, not an object"]),
    *(config(45, f"hidden_size {value!r}", ["hidden_size is ", "must be an integer"], hidden_size=value)
      for value in (0, -1, 10**12, "4096", 4096.5, None)),
    config(46, "key heads that do not divide the heads", ["num_key_value_heads is 3", "does not divide num_attention_heads, 4"],
           num_key_value_heads=3),
    config(46, "more key heads than heads", ["num_key_value_heads is 8"], num_key_value_heads=8),
    config(46, "no key heads", ["num_key_value_heads is 0: must be"], num_key_value_heads=0),
    config(46, "no heads", ["num_attention_heads is 0: must be"], num_attention_heads=0),
    config(46, "odd head_dim", ["head_dim is 31", "even"], head_dim=31),
    config(46, "heads that do not divide hidden_size", ["hidden_size is 72", "num_attention_heads, 5"], num_attention_heads=5),
    Case(47, "vocabulary larger than the embedding", f.config(vocab_size=200),
         [f'"{EMBEDDING}" has shape [199, 72]; config.json asks for [200, 72]']),
    Case(48, "a layer too many", f.config(num_hidden_layers=5, layer_types=["full_attention"] * 5),
         ['lacks tensor "model.layers.4.self_attn.q_proj.weight"']),
    Case(48, "a layer too few", f.config(num_hidden_layers=3, layer_types=["full_attention"] * 3), ["does not use", '"model.layers.3.']),
    Case(48, "layers by the thousand", f.config(num_hidden_layers=4096, layer_types=["full_attention"] * 4096),
         ['lacks tensor "model.layers.4.']),
    config(48, "too few layer types", ["layer_types is a list of 2", "num_hidden_layers is 4"], layer_types=["full_attention"] * 2),
    config(48, "unknown layer type", ["layer_types", "sliding_attention or full_attention"], layer_types=["x\x1b"] * 4),
    config(49, "unknown rope", ['rope_scaling.rope_type is "yarn\\u001b"'], rope_scaling={"rope_type": "yarn\x1b"},
           good={"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    config(49, "rope factor 0", ["rope_scaling.factor is 0"], rope_scaling={"rope_type": "linear", "factor": 0}),
    Case(49, "rope factor NaN", f.text(CONFIG, '"rope_theta": 50000.0', '"rope_theta": NaN'), [CONFIG, "not valid JSON"]),
    Case(49, "rope theta infinite", f.text(CONFIG, '"rope_theta": 50000.0', '"rope_theta": 1e999'),
         [CONFIG, "a number is malformed or out of range"]),
    Case(49, "a factor too few", factors(short_factor=[1.0] * 47), [CONFIG, "rope_scaling.short_factor is a list of 47", "48"], base="phi"),
    Case(49, "negative factor", factors(long_factor=[-1.0] * 48), [CONFIG, "rope_scaling.long_factor[0] is -1.0"], base="phi"),
    Case(50, "unknown architecture", f.config(architectures=["Bert\x1b[0m\n"]),
         [r'"Bert\u001b[0m\n" is not supported', "Gemma3ForCausalLM"]),
    Case(51, "end token that is none", f.generation(eos_token_id="</s>"), [GENERATION, 'eos_token_id is "</s>": must be an integer'],
         good=f.generation(eos_token_id=[1, 198])),
    Case(51, "end token outside the vocabulary", f.generation(eos_token_id=199), [], exit=0),
    Case(51, "end token negative", f.generation(eos_token_id=[1, -1]), [], exit=0),
    Case(51, "forced token outside the vocabulary", f.generation(forced_eos_token_id=199), [GENERATION, "forced_eos_token_id is 199"],
         good=f.generation(forced_eos_token_id=198)),
    Case(52, "context of 2^40", f.config(max_position_embeddings=2**40), ["1099511627776"], exit=0),
    config(52, "context of 2^41", ["max_position_embeddings is 2199023255552"], max_position_embeddings=2**41),
    config(53, "quantised", ["quantization_config", 'quantised by "gptq\\n" is not supported'],
           quantization_config={"quant_method": "gptq\n"}),
    Case(54, "key twice", f.text(CONFIG, '"hidden_size": 72', '"hidden_size": 72, "hidden_size": 72'),
         [CONFIG, '"hidden_size" stands twice']),
    Case(55, "temperature -1", f.generation(temperature=-1), [GENERATION, "temperature is -1"], good=f.generation(temperature=0.5)),
    Case(55, "temperature 1000", f.generation(temperature=1000, do_sample=True), [GENERATION, "temperature is 1000"],
         good=f.generation(temperature=100)),
    Case(55, "top_p 0", f.generation(top_p=0, do_sample=True), [GENERATION, "top_p is 0"], good=f.generation(top_p=0.01)),
    Case(55, "temperature NaN", f.write(GENERATION, '{"temperature": NaN}'), [GENERATION, "not valid JSON"]),
]
