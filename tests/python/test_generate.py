"""generate() on both real small models in float32: in every mode the ids of transformers' own generate()."""
import dataclasses

import pytest
from bringups import FLOAT32, GEMMA3, PHI3, load_bringup, load_hf
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
import transformers  # noqa: E402

ONE = "The three primary colours are"
TWO = ["Water boils at", "Once upon a time, there was a little girl who"]
NEW = 8
MODES = {  # name -> (prompts, arguments of generate())
    "greedy": (ONE, {}),
    "sampling": (ONE, {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.9}),
    "several samples": (ONE, {"do_sample": True, "num_return_sequences": 3}),
    "left-padded batch": (TWO, {}),
    "sampling a left-padded batch": (TWO, {"do_sample": True, "num_return_sequences": 2}),
    "beams": (ONE, {"num_beams": 3}),
    "beams of a left-padded batch": (TWO, {"num_beams": 2, "num_return_sequences": 2}),
    "sampled beams": (ONE, {"num_beams": 2, "do_sample": True}),
    "repetition penalty": (ONE, {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}),
    "stop strings": (ONE, {"stop_strings": [" and", " the"], "max_new_tokens": 15}),
    "no cache": (ONE, {"use_cache": False, "max_new_tokens": 4}),
    "prompt lookup": ("one two three four one two three four one two", {"prompt_lookup_num_tokens": 3}),
    "sampled prompt lookup": ("one two three four one two three four one two", {"prompt_lookup_num_tokens": 3, "do_sample": True}),
    "chunked prefill": (ONE, {"prefill_chunk_size": 3}),
    "chunked prefill of a left-padded batch": (TWO, {"prefill_chunk_size": 3}),
    "scores": (TWO, {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}),
}


@dataclasses.dataclass
class Pair:
    hf: torch.nn.Module
    ours: torch.nn.Module
    tokenizer: object

    def inputs(self, prompts):
        return self.tokenizer(prompts, return_tensors="pt", padding=not isinstance(prompts, str))

    def live(self):
        return self.ours.engine.cache.sequences


@pytest.fixture(scope="module", params=["gemma3_270m", "phi3_smollm2"])
def pair(request):
    checkpoint = request.getfixturevalue(request.param)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, padding_side="left")
    hf = load_hf(checkpoint)
    ours = load_bringup(GEMMA3 if "gemma" in request.param else PHI3).build_model(hf, "cpu", 512, **FLOAT32)
    return Pair(hf, ours, tokenizer)


def generate(model, inputs, **options):
    torch.manual_seed(0)
    return model.generate(**inputs, **({"do_sample": False, "max_new_tokens": NEW} | options))


@pytest.mark.parametrize("mode", MODES)
def test_ids_equal_transformers(pair, mode):
    prompts, options = MODES[mode]
    if "stop_strings" in options:
        options = options | {"tokenizer": pair.tokenizer}
    inputs = pair.inputs(prompts)
    expected, got = generate(pair.hf, inputs, **options), generate(pair.ours, inputs, **options)
    if mode == "scores":
        for a, b in zip(expected.logits + expected.scores, got.logits + got.scores, strict=True):
            torch.testing.assert_close(b, a, atol=1e-3, rtol=0)
        expected, got = expected.sequences, got.sequences
    assert torch.equal(got, expected), pair.tokenizer.batch_decode(got)
    assert pair.live() == 0, "conversations outlived generate()"


def test_assisted_decoding_equals_transformers(pair):
    inputs = pair.inputs(ONE)
    expected = generate(pair.hf, inputs)
    for model, assistant in (pair.ours, pair.hf), (pair.hf, pair.ours), (pair.ours, pair.ours):
        assert torch.equal(generate(model, inputs, assistant_model=assistant), expected)
    assert pair.live() == 0


def test_stopping_criteria_and_streamers_see_each_token(pair):
    class StopAfterFive(transformers.StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            return torch.full((len(ids),), ids.shape[1] >= start + 5)

    class Streamer(transformers.generation.BaseStreamer):
        def __init__(self):
            self.ids, self.ended = [], False

        def put(self, value):
            self.ids += value.flatten().tolist()

        def end(self):
            self.ended = True
    inputs, streamer = pair.inputs(ONE), Streamer()
    start = inputs["input_ids"].shape[1]
    got = generate(pair.ours, inputs, streamer=streamer, stopping_criteria=transformers.StoppingCriteriaList([StopAfterFive()]))
    assert torch.equal(got, generate(pair.hf, inputs, max_new_tokens=5))
    assert streamer.ids == got[0].tolist() and streamer.ended


def test_past_key_values_continue_a_conversation(pair):
    inputs = pair.inputs(ONE)
    expected = generate(pair.hf, inputs)
    cache = pair.ours.make_cache()
    half = generate(pair.ours, inputs, past_key_values=cache, max_new_tokens=NEW // 2)
    assert pair.live() == 1 and cache.get_seq_length() == half.shape[1] - 1
    assert torch.equal(generate(pair.ours, {"input_ids": half}, past_key_values=cache, max_new_tokens=NEW - NEW // 2), expected)
    del cache
    assert pair.live() == 0


def test_two_conversations_go_on_in_turns(pair):
    turns = [["Water boils at", " and freezes at", " degrees. So"], ["Once upon a time", ", a girl", " went"]]
    expected, got = [], []
    for model, out in (pair.hf, expected), (pair.ours, got):
        caches = [transformers.DynamicCache(config=pair.hf.config) if model is pair.hf else model.make_cache() for _ in turns]
        ids = [torch.zeros((1, 0), dtype=torch.long)] * 2
        for turn in range(3):
            for i in range(2):
                more = pair.tokenizer(turns[i][turn], return_tensors="pt", add_special_tokens=turn == 0)["input_ids"]
                ids[i] = generate(model, {"input_ids": torch.cat([ids[i], more], dim=1)}, past_key_values=caches[i], max_new_tokens=3)
        out += ids
    assert all(torch.equal(a, b) for a, b in zip(got, expected))
    assert pair.live() == 2
    del caches
    assert pair.live() == 0


def test_right_padded_prompts_go_on_as_if_alone(pair):
    ids = [pair.tokenizer(text)["input_ids"] for text in TWO]
    width = max(map(len, ids))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    got = generate(pair.ours, {"input_ids": padded, "attention_mask": mask})
    for row, prompt in zip(got, ids):
        assert row[width:].tolist() == generate(pair.hf, {"input_ids": torch.tensor([prompt])})[0, len(prompt):].tolist()


def test_a_pipeline_generates(pair, caplog):
    expected = generate(pair.hf, pair.inputs(ONE), max_new_tokens=4)
    pipeline = transformers.pipeline("text-generation", model=pair.ours, tokenizer=pair.tokenizer)
    got = pipeline(ONE, max_new_tokens=4, do_sample=False, return_full_text=True)
    assert got[0]["generated_text"] == pair.tokenizer.decode(expected[0], skip_special_tokens=True)
    assert "is not supported" not in caplog.text


def test_the_cache_that_generate_returns_holds_the_conversation_until_it_dies(pair):
    out = generate(pair.ours, pair.inputs(ONE), return_dict_in_generate=True)
    assert pair.live() == 1 and out.past_key_values.get_seq_length() == out.sequences.shape[1] - 1
    del out
    assert pair.live() == 0


def test_a_generation_across_longropes_boundary_equals_transformers(phi3_smollm2_longrope, long_text):
    """The factors change after 64 positions: the conversation is computed anew in the middle of generate()."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(phi3_smollm2_longrope)
    hf = load_hf(phi3_smollm2_longrope)
    ours = load_bringup(PHI3).build_model(str(phi3_smollm2_longrope), "cpu", 512, **FLOAT32)
    inputs = {"input_ids": tokenizer(long_text, return_tensors="pt")["input_ids"][:, :58]}
    for options in {"max_new_tokens": 16}, {"max_new_tokens": 12, "num_beams": 2}, {"max_new_tokens": 12, "do_sample": True}:
        assert torch.equal(generate(ours, inputs, **options), generate(hf, inputs, **options)), options
    assert ours.engine.cache.sequences == 0
