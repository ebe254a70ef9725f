"""How far the card may be from what is exact: for the tests of the simulated card, and for scripts/first_card.py on any."""

# A case of ops.py from float64, as a share of its values' size: at most twice what was measured. What is not named is exact.
OPS = {
    "nlp_": 0.0,
    "paged_update_cache, bfloat8_b": 0.0019,
    "typecast": 0.0152,
    "linear of 128 into float32": 0.0007,
    "softcap, float32": 2e-7,
    "softcap, bfloat16": 0.007,
    "HiFi2": 0.0088,
    "attention of a decode, 32 heads": 0.01,
    "Phi-3 Mini, attention of a decode": 0.01,
    "attention of a decode": 0.042,  # 16 heads or fewer: TTNN takes an approximate exp
    "attention of a chunk": 0.0075,
    "rotary": 0.0048,
    "mul with": 0.0048, "gated": 0.0048,
    "rms_norm": 0.0042,
    "linear": 0.0035, "qkv": 0.0035, "output": 0.0035, "gate": 0.0035, "down": 0.0035,
    "add": 0.0037,
    "multiply": 0.0033,
}
TWINS = 1.5  # a model's logits from float32: times the distance of the cpu device in its card mode


def bound(case, of=OPS):
    return next((value for part, value in of.items() if part in case), 0.0)
