"""The transformers face at its edges, on tiny random models in float32: padding, caches, limits, threads, and what is refused."""
import copy
import itertools
import threading

import numpy as np
import pytest
from bringups import FLOAT32, GEMMA3, PHI3, load_bringup, load_hf
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from tiny_checkpoints import TRAITS, make  # noqa: E402

VOCABULARY = 199
MAX_SEQ_LEN = 100
LONGROPE_AFTER = 32


def ids_of(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).integers(3, VOCABULARY, shape))


def padded(lengths, side, width=None):
    """Random ids in rows of these lengths, pads of 0, and the mask."""
    width = width or max(lengths)
    slots = torch.arange(width).expand(len(lengths), width)
    lengths = torch.tensor(lengths)[:, None]
    mask = slots < lengths if side == "right" else slots >= width - lengths
    return {"input_ids": ids_of(*mask.shape) * mask, "attention_mask": mask.long()}


class Tiny:
    def __init__(self, folder, name, trait):
        self.checkpoint = make(folder / "tiny", TRAITS[trait])
        self.hf = load_hf(self.checkpoint)
        self.hf.generation_config.eos_token_id = None
        self.ours = load_bringup(name).build_model(self.hf, "cpu", MAX_SEQ_LEN, **FLOAT32)

    def live(self):
        return self.ours.engine.cache.sequences

    def assert_same_generation(self, inputs, **options):
        got, expected = (generate(model, inputs, **options) for model in (self.ours, self.hf))
        assert torch.equal(got, expected)
        assert self.live() == 0


def generate(model, inputs, **options):
    inputs = inputs if isinstance(inputs, dict) else {"input_ids": inputs}
    torch.manual_seed(0)
    return model.generate(**inputs, **({"do_sample": False, "max_new_tokens": 6, "pad_token_id": 0} | options))


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory):
    """Window of 4 on three of four layers."""
    return Tiny(tmp_path_factory.mktemp("gemma3"), GEMMA3, "gemma3-window-4")


@pytest.fixture(scope="module")
def longrope(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("longrope"), PHI3, "phi3-longrope-old")


@pytest.fixture
def forwards(gemma3, monkeypatch):
    """For each forward: how many new tokens each of its sequences has."""
    calls = []
    generator = gemma3.ours.engine.generator

    class Counting:
        def forward(self, requests):
            calls.append([len(sequence) - sequence.length for sequence, _ in requests])
            return generator.forward(requests)
    monkeypatch.setattr(gemma3.ours.engine, "generator", Counting())
    return calls


def forward(model, **inputs):
    with torch.no_grad():
        return model(**inputs)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("lengths", [[9, 1, 5], [3, 3], [1], [12, 11]])
def test_padded_rows_have_the_logits_that_transformers_gives_them(gemma3, side, lengths):
    inputs = padded(lengths, side, width=12)
    mask = inputs["attention_mask"].bool()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    got = forward(gemma3.ours, **inputs).logits
    torch.testing.assert_close(got[mask], forward(gemma3.hf, **inputs, position_ids=positions).logits[mask], atol=1e-4, rtol=0)
    if side == "left":
        assert not got[~mask].any()
    else:
        last = got[torch.arange(len(lengths)), torch.tensor(lengths) - 1]
        assert torch.equal(got, torch.where(mask[..., None], got, last[:, None]))


def test_logits_to_keep_are_the_last_ones_or_those_named(gemma3):
    inputs = padded([9, 4], "left")
    whole = forward(gemma3.ours, **inputs).logits
    for keep in 1, 3, 9, 20:
        assert torch.equal(forward(gemma3.ours, **inputs, logits_to_keep=keep).logits, whole[:, -keep:])
    named = torch.tensor([2, 8, 5])
    assert torch.equal(forward(gemma3.ours, **inputs, logits_to_keep=named).logits, whole[:, named])


def test_outputs_are_what_transformers_expects(gemma3):
    output = forward(gemma3.ours, input_ids=ids_of(2, 5))
    assert isinstance(output, transformers.modeling_outputs.CausalLMOutputWithPast)
    assert output.logits.dtype == torch.float32 and output.logits.shape == (2, 5, VOCABULARY) and output.past_key_values.batch_size == 2
    logits, cache = forward(gemma3.ours, input_ids=ids_of(2, 5), return_dict=False)
    assert torch.equal(logits, output.logits) and cache.get_seq_length() == 5
    assert forward(gemma3.ours, input_ids=ids_of(2, 5), use_cache=False).past_key_values is None
    assert isinstance(gemma3.ours, torch.nn.Module) and isinstance(gemma3.ours, transformers.GenerationMixin)


def test_a_manual_loop_continues_padded_rows(gemma3):
    inputs = padded([9, 2, 5], "left")
    ours, hf = (transformers.DynamicCache(config=gemma3.hf.config) if model is gemma3.hf else model.make_cache() for model in (gemma3.ours, gemma3.hf))
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    for count in 9, 1, 3, 1:
        new = ids[:, -count:]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -count:]
        got = forward(gemma3.ours, input_ids=new, attention_mask=mask, position_ids=positions, past_key_values=ours).logits
        expected = forward(gemma3.hf, input_ids=new, attention_mask=mask, position_ids=positions, past_key_values=hf).logits
        torch.testing.assert_close(got[mask[:, -count:].bool()], expected[mask[:, -count:].bool()], atol=1e-4, rtol=0)
        count = {9: 1, 1: 3, 3: 1}[count]
        ids, mask = torch.cat([ids, ids_of(3, count, seed=count)], dim=1), torch.cat([mask, torch.ones(3, count, dtype=torch.long)], dim=1)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}, {"prefill_chunk_size": 4}, {"use_cache": False}],
                         ids=["greedy", "beams", "samples", "chunks", "no cache"])
def test_left_padded_generation_past_the_window_equals_transformers(gemma3, options):
    gemma3.assert_same_generation(padded([11, 2, 7], "left"), max_new_tokens=12, **options)


def test_many_beams_and_drafts_equal_transformers(gemma3):
    gemma3.assert_same_generation(ids_of(1, 5), num_beams=7, num_return_sequences=7, max_new_tokens=20)
    repeated = ids_of(1, 4).repeat(1, 4)
    gemma3.assert_same_generation(repeated, prompt_lookup_num_tokens=7, max_new_tokens=30)
    expected = generate(gemma3.hf, repeated, max_new_tokens=30)
    assert torch.equal(generate(gemma3.ours, repeated, max_new_tokens=30, assistant_model=gemma3.ours), expected)


def test_equal_rows_are_computed_once_until_they_part(gemma3, forwards):
    prompt = ids_of(1, 9)
    generate(gemma3.ours, prompt, num_beams=4, max_new_tokens=3)
    assert forwards[0] == [9] and max(map(len, forwards)) == 4
    forwards.clear()
    generate(gemma3.ours, prompt.repeat(3, 1), max_new_tokens=3)
    assert forwards == [[9], [1], [1]]  # greedy rows of one prompt never part
    forwards.clear()
    generate(gemma3.ours, torch.cat([prompt, ids_of(1, 9, seed=1), prompt]), max_new_tokens=2)
    assert forwards == [[9, 9], [1, 1]]


def test_crossing_longropes_boundary_equals_transformers(longrope):
    for options in {}, {"num_beams": 3}, {"do_sample": True}, {"prefill_chunk_size": 7}, {"use_cache": False}:
        longrope.assert_same_generation(ids_of(1, LONGROPE_AFTER - 5), max_new_tokens=15, **options)
    longrope.assert_same_generation(ids_of(2, LONGROPE_AFTER - 5), max_new_tokens=15)
    longrope.assert_same_generation(ids_of(1, LONGROPE_AFTER + 5), max_new_tokens=5)


def test_a_row_takes_longropes_factors_by_its_own_length(longrope):
    """Unlike in transformers, where the longest row chooses for all."""
    inputs = padded([LONGROPE_AFTER + 3, 10], "left")
    got = forward(longrope.ours, **inputs).logits
    for row, length in enumerate((LONGROPE_AFTER + 3, 10)):
        alone = forward(longrope.hf, input_ids=inputs["input_ids"][row:row + 1, -length:]).logits
        torch.testing.assert_close(got[row:row + 1, -length:], alone, atol=1e-4, rtol=0)


def test_a_prompt_in_pieces_across_longropes_boundary_is_that_in_one(longrope):
    ids = ids_of(1, LONGROPE_AFTER + 8)
    whole = forward(longrope.hf, input_ids=ids).logits
    cache = longrope.ours.make_cache()
    forward(longrope.ours, input_ids=ids[:, :LONGROPE_AFTER - 4], past_key_values=cache)
    got = forward(longrope.ours, input_ids=ids[:, LONGROPE_AFTER - 4:], past_key_values=cache).logits
    torch.testing.assert_close(got, whole[:, LONGROPE_AFTER - 4:], atol=1e-4, rtol=0)


def test_a_copied_cache_reuses_a_prompt(gemma3):
    prompt = ids_of(1, 20)
    cache = gemma3.ours.make_cache()
    forward(gemma3.ours, input_ids=prompt, past_key_values=cache)
    for seed, copied in itertools.product((1, 2), (copy.copy, copy.deepcopy)):
        ids = torch.cat([prompt, ids_of(1, 3, seed=seed)], dim=1)
        assert torch.equal(generate(gemma3.ours, ids, past_key_values=copied(cache)), generate(gemma3.hf, ids))
    assert cache.get_seq_length() == 20 and gemma3.live() == 1
    del cache
    assert gemma3.live() == 0


def test_a_cropped_cache_goes_on_from_there(gemma3):
    """As far back as the windows' pages reach, and further, where the tokens are computed again."""
    ids = ids_of(1, 80)
    whole = forward(gemma3.ours, input_ids=ids).logits
    for crop in 0, 1, 10, 79, 80:
        cache = gemma3.ours.make_cache()
        forward(gemma3.ours, input_ids=ids, past_key_values=cache)
        cache.crop(-crop)
        assert cache.get_seq_length() == 80 - crop
        if crop:
            assert torch.equal(forward(gemma3.ours, input_ids=ids[:, 80 - crop:], past_key_values=cache).logits, whole[:, 80 - crop:])
    for wrong in 1, -81:
        with pytest.raises(ValueError, match=f"crop: {wrong}"):
            cache.crop(wrong)


def test_rows_of_a_cache_are_cropped_apart(gemma3):
    """Rows that share their sequence so far, but not how much of it is padding."""
    ids = ids_of(1, 6).repeat(2, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]])
    placed = torch.zeros_like(mask).masked_scatter(mask.bool(), ids)
    cache = gemma3.ours.make_cache()
    forward(gemma3.ours, input_ids=placed, attention_mask=mask, past_key_values=cache)
    assert gemma3.live() == 1
    cache.crop(-2)
    assert gemma3.live() == 2
    new = ids_of(2, 1, seed=3)
    got = forward(gemma3.ours, input_ids=new, past_key_values=cache, attention_mask=torch.cat([mask[:, :6], torch.ones(2, 1, dtype=torch.long)], dim=1)).logits
    for row, kept in enumerate((6, 4)):
        alone = torch.cat([ids[row, :kept], new[row]])[None]
        torch.testing.assert_close(got[row], forward(gemma3.hf, input_ids=alone).logits[0, -1:], atol=1e-4, rtol=0)


def test_rows_of_a_cache_are_selected_and_repeated(gemma3):
    ids, new = ids_of(3, 7), ids_of(1, 1, seed=5)
    last = [forward(gemma3.ours, input_ids=torch.cat([row[None], new], dim=1)).logits[:, -1] for row in ids]

    def after(change):
        cache = gemma3.ours.make_cache()
        forward(gemma3.ours, input_ids=ids, past_key_values=cache)
        change(cache)
        return forward(gemma3.ours, input_ids=new.expand(cache.batch_size, 1), past_key_values=cache).logits[:, -1]
    for change, rows in ((lambda cache: cache.reorder_cache(torch.tensor([2, 2, 0])), [2, 2, 0]), (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
                         (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
                         (lambda cache: cache.batch_select_indices(torch.tensor([True, False, True])), [0, 2])):
        assert torch.equal(after(change), torch.cat([last[row] for row in rows]))
    cache = gemma3.ours.make_cache()
    forward(gemma3.ours, input_ids=ids, past_key_values=cache)
    cache.reset()
    assert (cache.get_seq_length(), cache.batch_size) == (0, -1)


def test_conversations_end_with_their_cache(gemma3):
    engine = gemma3.ours.engine
    free = [engine.cache.free_pages(group) for group in range(engine.cache.groups)]
    caches = [forward(gemma3.ours, input_ids=ids_of(2, 40, seed=i)).past_key_values for i in range(3)]
    assert gemma3.live() == 6 and engine.cache.free_pages(0) < free[0]
    caches.pop()
    assert gemma3.live() == 4
    caches.clear()
    assert gemma3.live() == 0 and [engine.cache.free_pages(group) for group in range(engine.cache.groups)] == free


def test_threads_wait_for_each_other(gemma3):
    prompts = [ids_of(2, 5 + i, seed=i) for i in range(6)]
    expected = [generate(gemma3.ours, prompt, max_new_tokens=12) for prompt in prompts]
    other = load_bringup(GEMMA3).build_model(gemma3.hf, gemma3.ours.engine.device, MAX_SEQ_LEN, **FLOAT32)  # another model on the same device
    got = [None] * 6

    def work(i):
        got[i] = generate(gemma3.ours if i % 2 else other, prompts[i], max_new_tokens=12)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(got, expected))
    assert gemma3.live() == other.engine.cache.sequences == 0


MASKED = {"input_ids": torch.ones(1, 4, dtype=torch.long)}
REFUSED = {  # name -> (arguments of forward, message)
    "a mask with holes": (MASKED | {"attention_mask": torch.tensor([[1, 0, 1, 1]])}, "attention_mask: row 0 has a hole"),
    "a mask of another width": (MASKED | {"attention_mask": torch.ones(1, 5)}, r"attention_mask: has shape \[1, 5\]"),
    "a 4-D mask": (MASKED | {"attention_mask": torch.ones(1, 1, 4, 4)}, "attention_mask: has shape"),
    "embeddings": ({"inputs_embeds": torch.zeros(1, 4, 72)}, "inputs_embeds: not supported"),
    "images": (MASKED | {"pixel_values": torch.zeros(1)}, "pixel_values: not supported"),
    "image tokens": (MASKED | {"token_type_ids": torch.tensor([[0, 1, 1, 0]])}, "token_type_ids"),
    "attentions": (MASKED | {"output_attentions": True}, "output_attentions: not supported"),
    "labels that are no ids": (MASKED | {"labels": torch.zeros(1, 4)}, r"labels: torch.float32 \[1, 4\]"),
    "other positions": (MASKED | {"position_ids": torch.tensor([[0, 1, 3, 4]])}, "position_ids: row 0 has 3 for its token 2"),
    "too few positions": (MASKED | {"position_ids": torch.tensor([[0]])}, "position_ids: has 1 columns"),
    "another cache": (MASKED | {"past_key_values": transformers.DynamicCache()}, "past_key_values: a DynamicCache"),
    "no ids": ({}, "input_ids: missing"),
    "empty ids": ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, r"input_ids: torch.int64 \[1, 0\]"),
    "floats": ({"input_ids": torch.zeros(1, 4)}, "input_ids: torch.float32"),
    "a token outside the vocabulary": ({"input_ids": torch.tensor([[VOCABULARY]])}, f"{VOCABULARY} is outside the vocabulary of {VOCABULARY}"),
    "a negative token": ({"input_ids": torch.tensor([[5, -1]])}, "token id -1"),
    "too many tokens": ({"input_ids": torch.ones(2, MAX_SEQ_LEN + 1, dtype=torch.long)}, f"row 0 would have {MAX_SEQ_LEN + 1} tokens; max_seq_len is {MAX_SEQ_LEN}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused_by_name(gemma3, case):
    arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        forward(gemma3.ours, **arguments)
    assert gemma3.live() == 0


def test_a_mask_with_holes_is_refused_in_generate_too(gemma3):
    with pytest.raises(ValueError, match="attention_mask: row 1 has a hole"):
        generate(gemma3.ours, {"input_ids": ids_of(2, 4), "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1]])})
    with pytest.raises(ValueError, match="inputs_embeds: not supported"):
        generate(gemma3.ours, {"inputs_embeds": torch.zeros(1, 4, 72)})


def test_a_mask_that_contradicts_the_cache_is_refused(gemma3):
    cache = forward(gemma3.ours, **padded([4, 2], "left")).past_key_values
    new = {"input_ids": ids_of(2, 2), "past_key_values": cache}
    with pytest.raises(ValueError, match="row 1 does not mask the tokens of its cache"):
        forward(gemma3.ours, **new, attention_mask=torch.ones(2, 6))
    with pytest.raises(ValueError, match="row 1 has a hole, zeros between the tokens in its cache and the new ones"):
        forward(gemma3.ours, **new, attention_mask=torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1]]))
    with pytest.raises(ValueError, match="has 2 rows; input_ids has 1"):
        forward(gemma3.ours, input_ids=ids_of(1, 1), past_key_values=cache)
    assert cache.get_seq_length() == 4


def test_a_forward_that_failed_leaves_its_cache_as_it_was(gemma3):
    prompt, new = ids_of(2, 9), ids_of(2, 3, seed=1)
    cache = forward(gemma3.ours, input_ids=prompt).past_key_values
    wrong = new.clone()
    wrong[1, 2] = VOCABULARY
    for bad in wrong, torch.ones(2, MAX_SEQ_LEN, dtype=torch.long):
        with pytest.raises(ValueError):
            forward(gemma3.ours, input_ids=bad, past_key_values=cache)
        assert cache.get_seq_length() == 9 and gemma3.live() == 2
    got = forward(gemma3.ours, input_ids=new, past_key_values=cache).logits
    assert torch.equal(got, forward(gemma3.ours, input_ids=torch.cat([prompt, new], dim=1)).logits[:, -3:])


def test_max_seq_len_ends_a_generation_by_both_numbers(gemma3):
    prompt = ids_of(1, MAX_SEQ_LEN - 3)
    assert generate(gemma3.ours, prompt, max_new_tokens=4).shape == (1, MAX_SEQ_LEN + 1)  # the last token is never forwarded
    with pytest.raises(ValueError, match=f"row 0 would have {MAX_SEQ_LEN + 1} tokens; max_seq_len is {MAX_SEQ_LEN}"):
        generate(gemma3.ours, prompt, max_new_tokens=5)
    assert gemma3.live() == 0


def test_output_does_not_depend_on_neighbours_or_chunks(gemma3):
    lengths = [40, 3, 17]
    inputs = padded(lengths, "left")
    together = forward(gemma3.ours, **inputs, logits_to_keep=1).logits
    for row, length in enumerate(lengths):
        ids = inputs["input_ids"][row:row + 1, -length:]
        assert torch.equal(forward(gemma3.ours, input_ids=ids, logits_to_keep=1).logits[0], together[row])
        cache = gemma3.ours.make_cache()
        for piece in ids.split(5, dim=1):
            logits = forward(gemma3.ours, input_ids=piece, past_key_values=cache, logits_to_keep=1).logits
        assert torch.equal(logits[0], together[row])
