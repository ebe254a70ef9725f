"""What is measured: the rows, whom each is compared with, and what the machine could do at best."""
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

WEIGHT_BYTES = {"bfloat16": 2, "bfloat8_b": 17 / 16, "bfloat4_b": 9 / 16}  # block formats: an exponent for 16 weights
CACHE_BYTES = 2  # bfloat16


@dataclass(frozen=True)
class Side:
    """Who does a row's work: `kind` is the engine's type of weights, `changes` what is different from the row."""
    engine: str
    kind: str
    label: str = ""
    changes: dict = field(default_factory=dict)

    @property
    def name(self):
        return self.label or f"{self.engine} {self.kind}"


@dataclass(frozen=True)
class Row:
    name: str
    model: str  # one of models.MODELS
    weights: str  # ours
    peers: tuple  # of Side
    threads: int = 2
    prompt: int = 0
    generated: int = 0
    depth: int = 0
    parallel: int = 1
    isa: str = ""  # forced on us
    busy: bool = False  # another program keeps one processor busy
    start: bool = False  # seconds from the command to one token, not tokens a second
    ratio: float | None = None  # wanted of the median of ratios to the best peer
    share: float | None = None  # or, for decoding, of the limit

    @property
    def ours(self):
        return Side("tessera", self.weights, "tessera")

    def of(self, side):
        return replace(self, **side.changes)


def llama(kind):
    return Side("llama.cpp", kind)


INT8 = Side("ctranslate2", "int8")
HUGGING_FACE = Side("transformers", "bfloat16")
QUIET = Side("tessera", "", "tessera, 1 thread, nobody else", {"threads": 1, "busy": False})
DEFAULT_KERNELS = Side("tessera", "", "tessera's default kernels", {"isa": ""})


def rows_270m():
    """Of the small model: what it costs to be ready for each token counts as much as memory does."""
    def row(name, weights, peers, **more):
        return Row(f"270M {name}", "gemma3-270m", weights, peers, **more)

    bf16, b8 = "bfloat16", "bfloat8_b"
    all_bf16, two_8bit = (llama("BF16"), INT8, HUGGING_FACE), (llama("Q8_0"), INT8)
    yield row("bf16 decode @0", bf16, all_bf16, generated=128, ratio=1.25, share=0.9)
    yield row("bf16 decode @512", bf16, (llama("BF16"),), generated=64, depth=512, ratio=1.25, share=0.9)
    yield row("bf16 decode @4096", bf16, (llama("BF16"),), generated=64, depth=4096, ratio=1.25, share=0.9)
    yield row("bf16 decode @0, 1 thread", bf16, (llama("BF16"),), threads=1, generated=128, share=0.9)
    yield row("8-bit decode @128", b8, two_8bit, generated=128, depth=128, ratio=1.5, share=0.9)
    yield row("8-bit decode @4096", b8, (llama("Q8_0"),), generated=64, depth=4096, ratio=1.5, share=0.9)
    yield row("bf16 prefill 512", bf16, all_bf16, prompt=512, ratio=1.3)
    yield row("bf16 prefill 4096", bf16, all_bf16, prompt=4096, ratio=1.3)
    yield row("8-bit prefill 512", b8, two_8bit, prompt=512, ratio=1.3)
    yield row("bf16 decode, 8 rows", bf16, (llama("BF16"), INT8), generated=64, depth=64, parallel=8, ratio=1.5)
    yield row("bf16 decode, 32 rows", bf16, (llama("BF16"), INT8), generated=64, depth=64, parallel=32, ratio=1.5)
    quiet = replace(QUIET, kind=b8)
    yield row("8-bit decode, a processor busy", b8, (llama("Q8_0"), quiet), generated=128, busy=True, ratio=0.9)
    yield row("bf16 first token", bf16, (llama("BF16"),), generated=1, start=True)
    yield row("8-bit first token", b8, (llama("Q8_0"),), generated=1, start=True)
    for isa, prompt in (("avx2", 512), ("plain", 128)):
        yield row(f"bf16 prefill {prompt}, {isa}", bf16, (replace(DEFAULT_KERNELS, kind=bf16),), prompt=prompt, isa=isa)
        yield row(f"bf16 decode @0, {isa}", bf16, (replace(DEFAULT_KERNELS, kind=bf16),), generated=32, isa=isa)
        yield row(f"8-bit decode @0, {isa}", b8, (replace(DEFAULT_KERNELS, kind=b8),), generated=32, isa=isa)


def rows_of_full_size():
    """Of random weights in the layouts of Gemma 3 4B and Phi-3 mini."""
    def row(model, name, weights, peer, **more):
        short = {"gemma3-4b": "4B", "phi3-mini": "Phi-3"}[model]
        return Row(f"{short} {name}", model, weights, (llama(peer),), **more)

    yield row("gemma3-4b", "8-bit decode @0, 1 thread", "bfloat8_b", "Q8_0", threads=1, generated=32, ratio=1.3, share=0.9)
    yield row("gemma3-4b", "8-bit decode @0", "bfloat8_b", "Q8_0", generated=32, ratio=1.5, share=0.9)
    yield row("gemma3-4b", "8-bit decode, 8 rows", "bfloat8_b", "Q8_0", generated=16, depth=16, parallel=8, ratio=3)
    yield row("gemma3-4b", "8-bit prefill 512", "bfloat8_b", "Q8_0", prompt=512, ratio=2.7)
    yield row("gemma3-4b", "8-bit first token", "bfloat8_b", "Q8_0", generated=1, start=True)
    yield row("gemma3-4b", "4-bit decode @0", "bfloat4_b", "Q4_0", generated=32, ratio=1.3, share=0.9)
    yield row("gemma3-4b", "bf16 prefill 512", "bfloat16", "BF16", prompt=512, ratio=1.6, share=0.8)
    yield row("phi3-mini", "8-bit decode @512", "bfloat8_b", "Q8_0", generated=32, depth=512, ratio=1.8, share=0.9)
    yield row("phi3-mini", "8-bit prefill 512", "bfloat8_b", "Q8_0", prompt=512, ratio=2.7)
    yield row("phi3-mini", "bf16 decode @512", "bfloat16", "BF16", generated=32, depth=512, ratio=1.8, share=0.9)
    yield row("phi3-mini", "bf16 prefill 512", "bfloat16", "BF16", prompt=512, ratio=1.6, share=0.8)


ROWS = [*rows_270m(), *rows_of_full_size()]


@dataclass(frozen=True)
class Layout:
    """The sizes of a model that its work follows from."""
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    windows: tuple  # of each layer; None: it sees everything

    @staticmethod
    def of(folder):
        c = json.loads((Path(folder) / "config.json").read_text())
        layers, window = c["num_hidden_layers"], c.get("sliding_window")
        kinds = c.get("layer_types", ["sliding_attention" if window else "full_attention"] * layers)
        return Layout(c["hidden_size"], c["intermediate_size"], layers, c["num_attention_heads"], c["num_key_value_heads"],
                      c.get("head_dim", c["hidden_size"] // c["num_attention_heads"]), c["vocab_size"],
                      tuple(window if kind == "sliding_attention" else None for kind in kinds))

    def weights_of_layers(self):
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    def cached_keys(self, position):
        """Of all layers together that the token at `position` sees, itself too."""
        return sum(min(position + 1, window or position + 1) for window in self.windows)

    def bytes_of_step(self, row):
        """Read from memory for one token of each sequence, in the middle of the row's tokens: all weights once, each sequence's keys and values."""
        weights = (self.weights_of_layers() + self.hidden * self.vocabulary) * WEIGHT_BYTES[row.weights]
        keys = self.cached_keys(row.depth + row.generated // 2)
        return weights + row.parallel * keys * 2 * self.kv_heads * self.head_dim * CACHE_BYTES

    def operations(self, row):
        """Of a prompt, of which the last token alone needs the head; or of one token of each sequence, in the middle of the row's tokens."""
        if row.prompt:
            tokens, logits, keys = row.prompt, 1, sum(self.cached_keys(row.depth + i) for i in range(row.prompt))
        else:
            tokens, logits, keys = row.parallel, row.parallel, row.parallel * self.cached_keys(row.depth + row.generated // 2)
        return 2 * self.weights_of_layers() * tokens + 4 * keys * self.heads * self.head_dim + 2 * self.hidden * self.vocabulary * logits

    def limit(self, row, probe):
        """Tokens a second of a machine that only multiplies what it must and, decoding, reads what it must meanwhile: each at the probe's speed."""
        seconds = self.operations(row) / probe["bfloat16_flop_per_second"]
        if row.prompt:
            return row.prompt / seconds
        return row.parallel / max(seconds, self.bytes_of_step(row) / probe["read_bytes_per_second"])
