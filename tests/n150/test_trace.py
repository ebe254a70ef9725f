"""Decodes that are recorded and replayed, on a place-holder of TTNN that records and replays: the logits are those without a trace, bit for bit."""
import json
import sys

import numpy as np
import pytest
import traced_ttnn
from conversations import Talk, mixed_turns, whole_conversation
from tiny_models import folders, model

GEMMA3, PHI3 = "small-gemma3-head-dim-32", "small-phi3-longrope-128"  # the first has a window of 16


@pytest.fixture(autouse=True)
def no_trace_is_left():
    traced_ttnn.called.clear()
    yield
    assert not traced_ttnn.traces, "with the device go its traces"


@pytest.fixture
def replays(monkeypatch):
    """The traces that are executed, none of which overwrites what lives: a tensor or a program that came after it."""
    execute, executed = traced_ttnn.execute_trace, []

    def watched(card, number, **options):
        trace = traced_ttnn.traces[number]
        traced_ttnn.require(not trace.later and not trace.later_programs, f"trace {number} overwrites what came after it")
        executed.append(number)
        execute(card, number, **options)

    monkeypatch.setattr(traced_ttnn, "execute_trace", watched)
    return executed


def opened(core, trace, notice=None):
    return core.open_device("n150", module="traced_ttnn", trace=trace, notice=notice)


def both(core, converse):
    """The rows that a conversation gives without traces and with them."""
    plain, traced = converse(opened(core, False)), converse(opened(core, True))
    assert np.isfinite(plain).all()
    return plain, traced


def decodes(talk, sequences, steps):
    return [talk.say(*[(sequence, 1, 1) for sequence in sequences]) for _ in range(steps)]


def opened_with(talk, lengths):
    sequences = [talk.cache.create() for _ in lengths]
    for sequence, length in zip(sequences, lengths):
        talk.say((sequence, length, 0))
    return sequences


@pytest.mark.parametrize("users", [1, 3, 8])
def test_decodes_that_cross_a_page_and_a_window_are_the_same(core, users):
    def converse(device):
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        return np.concatenate(decodes(talk, opened_with(talk, range(58, 58 + users)), 12))

    np.testing.assert_array_equal(*both(core, converse))
    assert traced_ttnn.called


def test_decodes_that_cross_longrope_s_boundary_are_the_same(core):
    def converse(device):
        talk = Talk(core, device, model(PHI3), weights="bfloat16")
        sequences = opened_with(talk, (122, 125, 128))
        return np.concatenate(decodes(talk, sequences, 9))

    np.testing.assert_array_equal(*both(core, converse))


@pytest.mark.parametrize("name", [GEMMA3, PHI3])
def test_every_kind_of_batch_is_the_same_when_it_comes_again(core, name):
    def converse(device):
        talk = Talk(core, device, model(name), max_tokens=8192, max_sequences=16, weights="bfloat16")
        return np.concatenate([whole_conversation(talk) for _ in range(3)])

    np.testing.assert_array_equal(*both(core, converse))


def test_a_fork_is_the_same(core):
    def converse(device):
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        first, second = opened_with(talk, (70, 40))
        rows = decodes(talk, (first, second), 3)
        fork = talk.cache.fork(first)
        rows += decodes(talk, (first, second), 2) + decodes(talk, (fork, second), 3)
        return np.concatenate(rows)

    np.testing.assert_array_equal(*both(core, converse))


def test_tables_that_grow_wider_are_the_same(core):
    def converse(device):
        talk = Talk(core, device, model("small-gemma3-window-16-long"), max_tokens=16384, max_sequences=1, weights="bfloat16")
        return np.concatenate(decodes(talk, opened_with(talk, (8187,)), 12))  # 128 pages hold 8,192 tokens

    np.testing.assert_array_equal(*both(core, converse))


def test_a_model_that_is_loaded_beside_another_is_not_overwritten(core):
    def converse(device):
        one = Talk(core, device, model(GEMMA3), weights="bfloat16")
        ones = opened_with(one, (20, 30))
        rows = [*decodes(one, ones, 4)]
        other = Talk(core, device, model(PHI3), weights="bfloat16")
        others = opened_with(other, (20, 30))
        for _ in range(4):
            rows += decodes(other, others, 1) + decodes(one, ones, 1)
        return np.concatenate(rows)

    np.testing.assert_array_equal(*both(core, converse))


def test_a_factor_that_comes_with_a_prompt_is_not_overwritten(core, replays):
    """Of a model whose programs another's are."""
    architecture, config, tensors = model("small-granite")
    other = architecture, config.replace('"residual_multiplier": 0.43', '"residual_multiplier": 0.29'), tensors

    def converse(device):
        first, second = (Talk(core, device, made, weights="bfloat16") for made in ((architecture, config, tensors), other))
        sequences = opened_with(first, (20, 30))
        rows = decodes(first, sequences, 3)
        others = opened_with(second, (20, 30))
        return np.concatenate(rows + decodes(first, sequences, 4) + decodes(second, others, 4))

    np.testing.assert_array_equal(*both(core, converse))
    assert replays


def test_two_models_that_share_a_cache_are_each_answered_by_their_own(core, replays):
    architecture, config, tensors = model(GEMMA3)
    other_model = architecture, config, {**tensors, "model.norm.weight": tensors["model.norm.weight"] + 1}  # its keys are the same

    def converse(device):
        one = Talk(core, device, model(GEMMA3), weights="bfloat16")
        other = Talk(core, device, other_model, cache_of=one, weights="bfloat16")
        ones, others = opened_with(one, (40,)), opened_with(other, (40,))
        first = decodes(one, ones, 3) + decodes(other, others, 3)
        return np.stack(first + [talk.say((sequence, 1, 1)) for _ in range(3) for talk, (sequence,) in ((one, ones), (other, others))])

    plain, traced = both(core, converse)
    assert not np.array_equal(plain[:3], plain[3:6])
    np.testing.assert_array_equal(traced, plain)


def test_a_batch_may_want_other_rows_than_the_recorded_one(core):
    def converse(device):
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        first, second = opened_with(talk, (20, 30))
        wanted = [(1, 1), (1, 1), (0, 1), (1, 0), (1, 1)]
        return np.concatenate([talk.say((first, 1, a), (second, 1, b)) for a, b in wanted] + [talk.say((first, 2, 2)), talk.say((first, 2, 1))])

    np.testing.assert_array_equal(*both(core, converse))


def test_a_replay_calls_no_op(core):
    talk = Talk(core, opened(core, True), model(PHI3), weights="bfloat16")
    sequences = opened_with(talk, (20, 30))
    decodes(talk, sequences, 3)  # called, recorded and held against the same one called again
    traced_ttnn.called.clear()
    decodes(talk, sequences, 1)
    assert set(traced_ttnn.called) == {"copy_host_to_device_tensor", "to_layout", "from_device"}
    assert traced_ttnn.called.count("copy_host_to_device_tensor") == 6  # ids, a table and positions, cos, sin and the rotation's matrix


def test_who_observes_sees_every_decode_and_none_is_recorded(core, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ttnn", traced_ttnn)
    ids, facts = tmp_path / "ids.json", tmp_path / "facts.json"
    ids.write_text(json.dumps(list(range(3, 43))))  # token by token, each a decode of the same kind
    assert core.cli_main([argument.encode() for argument in (
        "tessera", "compare", "-m", str(folders() / GEMMA3), "--device", "n150", "--trace", "1", "--device-b", "cpu", "--ids-file", str(ids), "-b", "1",
        "-c", "64", "--json", str(facts))]) == 0
    told = json.loads(facts.read_text())
    assert (told["tokens"], told["first_below"], told["only_a"], told["only_b"]) == (40, None, [], [])
    assert "copy_host_to_device_tensor" not in traced_ttnn.called


def test_pieces_of_a_prompt_that_the_card_computes_again_are_compared_once(core, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ttnn", traced_ttnn)
    ids, facts = tmp_path / "ids.json", tmp_path / "facts.json"
    ids.write_text(json.dumps([3 + i % 200 for i in range(300)]))  # in pieces of 32, of which the card computes up to 96 tokens again
    assert core.cli_main([argument.encode() for argument in (
        "tessera", "compare", "-m", str(folders() / GEMMA3), "--device", "n150", "--device-b", "cpu", "--ids-file", str(ids), "--json", str(facts))]) == 0
    told = json.loads(facts.read_text())
    assert (told["tokens"], told["first_below"], told["only_a"], told["only_b"]) == (300, None, [], [])


def test_no_more_than_eight_traces_are_kept(core):
    talk = Talk(core, opened(core, True), model(GEMMA3), weights="bfloat16", max_sequences=12)
    sequences = opened_with(talk, [20] * 12)
    for _ in range(2):  # the last kind that is new drops the others' recordings
        for users in (1, 2, 3, 5, 12):  # padded to 1, 2, 4, 8, 16
            for wanted in (0, 1):
                talk.say(*[(sequence, 1, wanted) for sequence in sequences[:users]])
    assert len(traced_ttnn.traces) == 8
    kept = set(traced_ttnn.traces)
    decodes(talk, sequences[:6], 1)  # still there
    assert set(traced_ttnn.traces) == kept


def test_a_cache_s_traces_go_with_it(core):
    device = opened(core, True)
    one, other = (Talk(core, device, model(GEMMA3), weights="bfloat16") for _ in range(2))
    ones, others = opened_with(one, (20,)), opened_with(other, (20,))
    decodes(one, ones, 2), decodes(other, others, 2), decodes(one, ones, 1)
    assert len(traced_ttnn.traces) == 2
    del one, ones
    decodes(other, others, 1)
    assert len(traced_ttnn.traces) == 1


def test_a_model_s_traces_go_with_it(core):
    device = opened(core, True)
    one = Talk(core, device, model(GEMMA3), weights="bfloat16")
    other = Talk(core, device, model(GEMMA3), cache_of=one, weights="bfloat16")
    ones, others = opened_with(one, (20,)), opened_with(other, (20,))
    decodes(one, ones, 2), decodes(other, others, 2), decodes(one, ones, 1)
    assert len(traced_ttnn.traces) == 2
    del one
    decodes(other, others, 1)
    assert len(traced_ttnn.traces) == 1


INPUTS = {"tokens": lambda host: host.dtype == "uint32", "a page table": lambda host: host.dtype == "int32" and len(host.shape) == 2,
          "positions": lambda host: host.dtype == "int32" and len(host.shape) == 1, "angles": lambda host: host.dtype == "bfloat16"}


@pytest.mark.parametrize("name", INPUTS)
def test_a_stale_input_shows(core, monkeypatch, name):
    def converse(device):
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        return np.concatenate(decodes(talk, opened_with(talk, (62, 61)), 6))

    plain = converse(opened(core, False))
    copied = traced_ttnn.copy_host_to_device_tensor
    monkeypatch.setattr(traced_ttnn, "copy_host_to_device_tensor", lambda host, tensor: None if INPUTS[name](host) else copied(host, tensor))
    traced = converse(opened(core, True))
    np.testing.assert_array_equal(plain[0], traced[0])
    assert not np.array_equal(plain, traced)


@pytest.mark.parametrize("name", [GEMMA3, PHI3])
def test_an_older_kind_that_comes_after_a_newer_one_is_the_same(core, replays, name):
    def converse(device):
        talk = Talk(core, device, model(name), weights="bfloat16")
        a, b = opened_with(talk, (61, 70))
        rows = decodes(talk, (a,), 6)
        for users in ((a, b), (a,), (a, b), (b,), (a, b)):
            rows += decodes(talk, users, 3)
        return np.concatenate(rows)

    np.testing.assert_array_equal(*both(core, converse))
    assert len(replays) == 5 + 2 + 3 + 3 + 3 + 3


@pytest.mark.parametrize("name", [GEMMA3, PHI3])
def test_50_mixed_turns_are_the_same_and_make_no_program_after_50_others(core, replays, name):
    counts = []

    def converse(device):
        talk = Talk(core, device, model(name), max_tokens=16384, max_sequences=9, weights="bfloat16")
        rows = []
        for _ in range(2):
            rows.append(mixed_turns(talk, 50, users=8))
            counts.append((len(traced_ttnn.programs), len(replays)))
        return np.concatenate(rows)

    np.testing.assert_array_equal(*both(core, converse))
    (plain, none), (again, none_again), (traced, first), (traced_again, all_) = counts
    assert (none, none_again) == (0, 0) and plain == again and traced == traced_again
    assert all_ - first > first > 20


def test_a_program_that_comes_later_drops_the_recordings_and_they_are_made_anew(core, replays):
    talk = Talk(core, opened(core, True), model(GEMMA3), weights="bfloat16")
    a, b = opened_with(talk, (70, 40))
    decodes(talk, (a, b), 3)
    assert list(traced_ttnn.traces) == [1]
    fork = talk.cache.fork(a)
    decodes(talk, (fork, b), 1)  # copies a page before
    assert list(traced_ttnn.traces) == [2]
    decodes(talk, (fork, b), 1)
    assert replays == [1, 1, 2, 2]


@pytest.mark.parametrize("op", ["linear", "end_trace_capture"])
def test_a_decode_that_cannot_be_recorded_is_called_and_told_of_once(core, monkeypatch, op):
    original, begin, begun, told = getattr(traced_ttnn, op), traced_ttnn.begin_trace_capture, [], []

    def refuses(*arguments, **options):
        captured = traced_ttnn.recording() is not None
        result = original(*arguments, **options)
        traced_ttnn.require(not captured, "the trace region is full")
        return result

    monkeypatch.setattr(traced_ttnn, op, refuses)
    monkeypatch.setattr(traced_ttnn, "begin_trace_capture", lambda card, cq_id: (begun.append(card), begin(card, cq_id))[1])

    def converse(device):
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        sequences = opened_with(talk, (20, 30))
        return np.concatenate(decodes(talk, sequences, 4) + decodes(talk, sequences[:1], 3))

    np.testing.assert_array_equal(converse(opened(core, True, told.append)), converse(opened(core, False)))
    assert len(begun) == 1 and not traced_ttnn.traces
    assert len(told) == 1 and told[0].startswith(f"n150: a decode cannot be recorded: {op}") and "the trace region is full" in told[0]


def test_a_recording_is_replayed_still_when_another_was_refused(core, monkeypatch, replays):
    end, full = traced_ttnn.end_trace_capture, False

    def may_refuse(card, number, cq_id):
        end(card, number, cq_id)
        traced_ttnn.require(not full, "the trace region is full")

    monkeypatch.setattr(traced_ttnn, "end_trace_capture", may_refuse)

    def converse(device, fails):
        nonlocal full
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        sequences = opened_with(talk, (20, 30))
        rows = decodes(talk, sequences, 1) + decodes(talk, sequences[:1], 2)
        full = fails
        return np.concatenate(rows + decodes(talk, sequences, 2) + decodes(talk, sequences[:1], 2))

    np.testing.assert_array_equal(converse(opened(core, True), True), converse(opened(core, False), False))
    assert replays == [1, 1, 1]


def test_an_error_of_a_decode_leaves_the_device_usable(core, monkeypatch):
    linear, broken = traced_ttnn.linear, False

    def may_refuse(*arguments, **options):
        traced_ttnn.require(not broken, "it is broken")
        return linear(*arguments, **options)

    monkeypatch.setattr(traced_ttnn, "linear", may_refuse)

    def converse(device, fails):
        nonlocal broken
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        sequences = opened_with(talk, (20, 30))
        rows = decodes(talk, sequences[:1], 3)
        if fails:
            broken = True
            for sequence in sequences:
                sequence.append([1])
            with pytest.raises(RuntimeError, match="^linear.*TTNN refuses: it is broken"):
                talk.generator.forward([(sequence, 1) for sequence in sequences])
            broken = False
            assert [sequence.length for sequence in sequences] == [23, 30], "nothing is committed"
            assert not traced_ttnn.traces
            for sequence in sequences:
                talk.cache.truncate(sequence, sequence.length)
        return np.concatenate(rows + decodes(talk, sequences, 4))

    np.testing.assert_array_equal(converse(opened(core, True), True), converse(opened(core, False), False))


def test_the_first_replay_and_the_256th_after_it_are_held_against_the_ops_called(core, replays):
    talk = Talk(core, opened(core, True), model(GEMMA3), weights="bfloat16")
    sequences, called = opened_with(talk, (20, 30)), []
    for decode in range(262):
        traced_ttnn.called.clear()
        decodes(talk, sequences, 1)
        if "linear" in traced_ttnn.called:
            called.append(decode)
    assert called == [0, 1, 257]  # called, recorded, and 256 later
    assert len(replays) == 261


@pytest.mark.parametrize("wrong", [0, 256])
def test_a_replay_that_differs_is_not_given_and_none_follows(core, monkeypatch, wrong):
    execute, executed, told = traced_ttnn.execute_trace, [], []

    def spoiling(card, number, **options):
        execute(card, number, **options)
        if len(executed) == wrong:
            program, copy, (made, logits), options, outputs = traced_ttnn.traces[number].commands[-1]
            logits.values[:] = np.nextafter(logits.values, np.float32(np.inf))
        executed.append(number)

    monkeypatch.setattr(traced_ttnn, "execute_trace", spoiling)

    def converse(device):
        talk = Talk(core, device, model(GEMMA3), weights="bfloat16")
        return np.concatenate(decodes(talk, opened_with(talk, (20, 30, 40)), wrong + 6))

    np.testing.assert_array_equal(converse(opened(core, True, told.append)), converse(opened(core, False)))
    assert len(executed) == wrong + 1 and not traced_ttnn.traces
    assert told == ["n150: a replayed decode of 4 users differs from the same decode called op by op, which is taken; no decode is recorded from now on"]


def test_the_card_is_opened_with_room_for_traces_only_when_they_are_asked_for(core):
    opened(core, True), opened(core, False)
    assert traced_ttnn.regions[-2:] == [128_000_000, 0]


def test_the_cpu_has_none(core):
    with pytest.raises(ValueError, match="^trace: only the n150 records and replays its decodes"):
        core.open_device("cpu", trace=True)
