"""Checkpoints to be spoiled: a tiny Gemma 3 or Phi-3 with a tokenizer, whole and valid until a case changes one thing."""
import json
import shutil
import struct

from safetensors.torch import load_file, save_file
from tiny_checkpoints import TRAITS, make

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
TEMPLATE = "{% for m in messages %}{{ '<start_of_turn>' + m.role + m.content + '<end_of_turn>' }}{% endfor %}{{ '<start_of_turn>assistant' }}"


def tokenizer_json():
    """Gemma's layout over ASCII: the control tokens, "▁", a line break, every printable character, and one merge."""
    tokens = [*CONTROL, "▁", "\n", *map(chr, range(0x21, 0x7F)), "ab"]
    added = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, token in enumerate(CONTROL)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": [["a", "b"]]}}


def make_checkpoints(folder):
    """The three that cases begin with: gemma (one file), sharded (the same in two), phi."""
    gemma = make(folder / "gemma", TRAITS["gemma3-window-4"])
    phi = make(folder / "phi", TRAITS["phi3-longrope-old"])
    for checkpoint in gemma, phi:
        (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
        (checkpoint / "chat_template.jinja").write_text(TEMPLATE)
    sharded = folder / "sharded"
    shutil.copytree(gemma, sharded)
    (sharded / "model.safetensors").unlink()
    tensors = load_file(gemma / "model.safetensors")
    names = sorted(tensors)
    weight_map = {name: SHARDS[i >= len(names) // 2] for i, name in enumerate(names)}
    for shard in SHARDS:
        save_file({name: tensors[name] for name in names if weight_map[name] == shard}, sharded / shard, metadata={"format": "pt"})
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())}, "weight_map": weight_map}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    return {"gemma": gemma, "sharded": sharded, "phi": phi}


# Each of these makes a change, which takes the checkpoint's folder.

def write(name, content):
    """The whole file: bytes or text."""
    def change(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def text(name, old, new):
    """One place of a text file."""
    def change(folder):
        content = (folder / name).read_text()
        assert old in content, f"{old} is not in {name}"
        (folder / name).write_text(content.replace(old, new, 1))
    return change


def fields(name, **values):
    """Top-level fields of a JSON file."""
    def change(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return change


def edit(name, use):
    """A JSON file as `use` makes it anew."""
    def change(folder):
        path = folder / name
        content = json.loads(path.read_text())
        use(content)
        path.write_text(json.dumps(content))
    return change


def config(**values):
    return fields("config.json", **values)


def generation(**values):
    return fields("generation_config.json", **values)


def without(name, key):
    return edit(name, lambda content: content.pop(key))


def tokenizer(use):
    return edit("tokenizer.json", use)


def all_of(*changes):
    def change(folder):
        for each in changes:
            each(folder)
    return change


def read_weights(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def write_weights(path, header, data, length=None):
    """`header`: the dictionary, or its text as bytes."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)


def weights(use=None, length=None, raw=None, data=None, name="model.safetensors"):
    """A safetensors file with its header changed by `use` (a dictionary) or `raw` (its text), its data by `data`."""
    def change(folder):
        header, content = read_weights(folder / name)
        if use:
            use(header)
        encoded = json.dumps(header, ensure_ascii=False).encode("utf-8", "surrogatepass")
        write_weights(folder / name, raw(encoded) if raw else encoded, data(content) if data else content, length)
    return change


def tensor(name="model.norm.weight", **values):
    """Fields of one tensor of the header."""
    return weights(lambda header: header[name].update(values))


def more_tensors(**tensors):
    """Tensors behind the last one, name -> (dtype, shape, bytes)."""
    def use(header):
        end = max(t["data_offsets"][1] for key, t in header.items() if key != "__metadata__")
        for key, (dtype, shape, size) in tensors.items():
            header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
    return weights(use, data=lambda content: content + bytes(sum(size for _, _, size in tensors.values())))
