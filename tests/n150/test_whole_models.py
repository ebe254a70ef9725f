"""Gemma 3 4B and Phi-3 Mini at full width and depth on the mock card: every call of every layer passes TTNN's checks and its allocator."""
import time

import pytest
from conversations import Talk
from tiny_models import model
from unfilled import PeakTtnn


@pytest.fixture(scope="module")
def device(core, ttnn, card):
    PeakTtnn(ttnn, card, watches=False)
    return core.open_device(card, module="peak_ttnn")


def prefill_and_decode(talk, prompts, decodes):
    """Prompts of these lengths; then, for each (context, users), a decode of so many conversations that share a prompt."""
    for tokens in prompts:
        assert talk.say((talk.cache.create(), tokens, 1)).shape == (1, talk.loaded.model.spec.vocab_size)
    for context in sorted({context for context, _ in decodes}):
        first = talk.cache.create()
        talk.say((first, context - 1, 0))
        batches = [users for length, users in decodes if length == context]
        others = [talk.cache.fork(first) for _ in range(max(batches) - 1)]
        for users in batches:
            assert len(talk.say(*[(sequence, 1, 1) for sequence in [first, *others][:users]])) == users
        del first, others


BATCHES = [(context, users) for context in (128, 2048, 8192) for users in (1, 8, 32)]


def test_gemma3_4b_passes_with_room_for_32_conversations_of_8192_tokens(core, device):
    talk = Talk(core, device, model("gemma3-4b"), max_tokens=32 * 8192, max_sequences=32, weights="bfloat8_b", cache="bfloat8_b")
    prefill_and_decode(talk, (20, 128, 1000, 4096), BATCHES)


def test_gemma3_4b_in_bfloat16_passes(core, device):
    talk = Talk(core, device, model("gemma3-4b"), max_tokens=8 * 2048, max_sequences=8, weights="bfloat16", cache="bfloat16")
    prefill_and_decode(talk, (20, 1000), [(2048, 8)])


@pytest.mark.parametrize("weights, cache, room, decodes", [("bfloat16", "bfloat8_b", 21600, [(128, 32), (2048, 8), (8192, 1)]),
                                                           ("bfloat8_b", "bfloat8_b", 37600, [(128, 32), (1024, 32), (8192, 1)]),
                                                           ("bfloat16", "bfloat16", 10400, [(128, 32), (2048, 1), (8192, 1)])])
def test_phi3_mini_passes_as_far_as_its_memory_goes(core, device, weights, cache, room, decodes):
    talk = Talk(core, device, model("phi3-mini"), max_tokens=room, max_sequences=33, weights=weights, cache=cache)
    prefill_and_decode(talk, (20, 128, 1000, 4096), decodes)


def test_the_longest_context_passes_its_last_chunk_and_a_decode(core, device):
    """One layer of each kind: what a table of all pages needs does not depend on the layers."""
    talk = Talk(core, device, model("gemma3-4b-two-layers"), max_tokens=131072, max_sequences=2, weights="bfloat8_b", cache="bfloat8_b")
    sequence = talk.cache.create()
    talk.say((sequence, 131071, 1))
    assert talk.say((sequence, 1, 1)).shape == (1, 512)


def test_the_host_s_part_of_a_decode_of_gemma3_4b_is_told(core, card, device, measured):
    talk = Talk(core, device, model("gemma3-4b"), max_tokens=8 * 1024, max_sequences=8, weights="bfloat8_b", cache="bfloat8_b")
    first = talk.cache.create()
    talk.say((first, 100, 0))
    sequences = [first, *[talk.cache.fork(first) for _ in range(7)]]
    for users in (1, 8):
        talk.say(*[(sequence, 1, 1) for sequence in sequences[:users]])
        programs, seconds = card.num_program_cache_entries(), []
        for _ in range(10):
            start = time.perf_counter()
            talk.say(*[(sequence, 1, 1) for sequence in sequences[:users]])
            seconds.append(time.perf_counter() - start)
        assert card.num_program_cache_entries() == programs
        measured(f"host's part of a warm decode of Gemma 3 4B's 34 layers, {users} users, on the mock: {min(seconds) * 1e3:.1f} ms at best, "
                 f"{sorted(seconds)[5] * 1e3:.1f} in the middle")
