"""Tokens chosen from the few logits that the device gives are those chosen from all of them, on the cpu and on the place-holders of TTNN."""
import numpy as np
import pytest
from conversations import Talk
from tiny_models import model

DEVICES = {"cpu": {"name": "cpu"}, "n150": {"name": "n150", "module": "numpy_ttnn"}, "n150 with traces": {"name": "n150", "module": "traced_ttnn", "trace": True}}
MODEL = "small-gemma3-narrow"  # of 400 tokens
CHOICES = {
    "greedy": {"temperature": 0}, "top_k of 5": {"top_k": 5}, "top_k of 1": {"top_k": 1}, "top_k of 31 and cold": {"top_k": 31, "temperature": 0.3},
    "top_k of 32, top_p, min_p": {"top_k": 32, "top_p": 0.8, "min_p": 0.02, "temperature": 1.7}, "top_k of 63": {"top_k": 63, "temperature": 3.0},
    "top_k of 64": {"top_k": 64}, "top_k of 255": {"top_k": 255}, "top_k of 256": {"top_k": 256}, "all": {"temperature": 1.2, "top_p": 0.9}, "a penalty": {"top_k": 8, "repetition_penalty": 1.3},
    "greedy with a bias": {"temperature": 0, "logit_bias": {7: 5.0}}, "barred ends": {"temperature": 0, "min_new_tokens": 3},
}
FEW = {"greedy", "barred ends", "top_k of 5", "top_k of 1", "top_k of 31 and cold", "top_k of 32, top_p, min_p", "top_k of 63"}
END = 9


def opened(core, name):
    import numpy_ttnn  # noqa: F401
    import traced_ttnn  # noqa: F401

    return core.open_device(**DEVICES[name])


def sampler(core, choice, seed=3):
    params = core.SamplingParams()
    params.seed = seed
    for field, value in CHOICES[choice].items():
        setattr(params, field, value)
    return core.Sampler(params, [END])


def from_all(core, talk, sequence, choice, prompt):
    logits = talk.generator.forward([(sequence, 1)])[0]
    return sampler(core, choice).sample(logits, sequence.tokens, prompt)


def from_few(core, talk, sequence, choice, prompt):
    return talk.generator.sample(sequence, sampler(core, choice), prompt)


def choices(core, device, choice, choose, loaded=None, tokens=12, **precision):
    talk = Talk(core, device, loaded or model(MODEL), weights="bfloat16", **precision)
    sequence = talk.cache.create()
    prompt = np.arange(150, dtype=np.int32) % 97  # its last row stands within a chunk
    sequence.append(prompt)
    chosen = []
    for fed in np.random.default_rng(5).integers(0, 97, tokens):
        chosen.append(choose(core, talk, sequence, choice, len(prompt)))
        sequence.append([int(fed)])  # a model this small would repeat itself
    return chosen


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", DEVICES)
def test_the_tokens_are_those_from_all_logits(core, name, choice):
    few, every = (choices(core, opened(core, name), choice, choose) for choose in (from_few, from_all))
    assert few == every
    assert len(set(every)) > 1


@pytest.fixture
def read_back(monkeypatch):
    """The shapes of the n150's tensors that are read back."""
    import numpy_ttnn

    read, made = numpy_ttnn.from_device, []

    def watched(tensor):
        made.append(tensor.shape)
        return read(tensor)

    monkeypatch.setattr(numpy_ttnn, "from_device", watched)
    return made


@pytest.mark.parametrize("choice", CHOICES)
def test_no_more_is_read_back_than_is_needed(core, read_back, choice):
    choices(core, opened(core, "n150"), choice, from_few)
    widest = max(shape[-1] for shape in read_back)
    assert widest <= 64 if choice in FEW else widest == 400


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("choice", ["greedy", "top_k of 5", "top_k of 32, top_p, min_p"])
def test_ties_are_as_from_all_logits(core, name, choice):
    """Each id's row of the table is another's too, and some values are many ids': every logit is a tie."""
    architecture, config, tensors = model(MODEL)
    for copies in (2, 50):
        tied = dict(tensors)
        table = tensors["model.embed_tokens.weight"]
        tied["model.embed_tokens.weight"] = np.concatenate([table[: 400 // copies]] * copies)
        few, every = (choices(core, opened(core, name), choice, choose, (architecture, config, tied)) for choose in (from_few, from_all))
        assert few == every


def with_logits_of(value):
    architecture, config, tensors = model("small-phi3-narrow")
    head = tensors["lm_head.weight"].copy()
    head[5] = value
    return architecture, config, {**tensors, "lm_head.weight": head}


@pytest.mark.parametrize("choice", ["greedy", "top_k of 5"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_the_cpu_refuses_logits_that_are_no_numbers(core, choice, value):
    with pytest.raises(RuntimeError, match="non-finite logits: .* for token 5"):
        choices(core, opened(core, "cpu"), choice, from_few, with_logits_of(value))


@pytest.mark.parametrize("vocab", [262208, 32064, 301])
def test_ttnn_takes_the_calls_for_real_vocabularies(core, card, vocab):
    talk = Talk(core, core.open_device(card), model(f"vocabulary-{vocab}"), weights="bfloat8_b")
    sequence = talk.cache.create()
    sequence.append(np.zeros(150, np.int32))
    for choice in ("greedy", "top_k of 5", "top_k of 63"):
        for _ in range(2):  # a row of a chunk, then a decode's
            talk.generator.sample(sequence, sampler(core, choice), 1)
            sequence.append([0])


@pytest.mark.parametrize("vocab", [262208, 32064])
@pytest.mark.parametrize("rows", [1, 8, 32])
def test_ttnn_takes_them_for_up_to_32_rows(ttnn, card, vocab, rows):
    logits = ttnn.empty((1, 1, rows, vocab), ttnn.float32, ttnn.TILE_LAYOUT, card, ttnn.DRAM_MEMORY_CONFIG)
    values, ids = ttnn.topk(logits, k=64, dim=-1)
    lines = ttnn.to_layout(logits, ttnn.ROW_MAJOR_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG)
    assert (tuple(values.shape), tuple(ids.shape), ids.dtype) == ((1, 1, rows, 64), (1, 1, rows, 64), ttnn.uint32)
    assert tuple(ttnn.argmax(lines, dim=-1).shape) == (1, 1, rows)
