"""Every field of generation_config.json: `tessera run` gives the ids of transformers' generate() of the same folder, or refuses it by name.

A field's case is made from the ids that come without it, so that they change by it; those of sampling leave one token to draw.
"""
import inspect
import json
import re
import subprocess

import pytest
import torch
import transformers
from bringups import load_hf
from hostile_files import tokenizer_json
from tessera_program import FLOAT32
from tiny_checkpoints import TRAITS, make

PROMPT = [2, 102, 15, 20, 102, 15, 31, 78]
NEW = 20
VOCABULARY = 211
BASE = {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 2, "max_new_tokens": NEW}
SAMPLED = {"do_sample": True, "top_k": 0}
TWO_LIKELY = {"temperature": 100.0, "sequence_bias": [[[50], 3000.0], [[60], 3020.0]]}  # 45 % and 55 %


def pieces(ids):
    return [TOKENS[i] for i in ids]


# name: the fields, of the ids that come without them; what is not named is BASE's
HONOURED = {
    "max_new_tokens": lambda ids: {"max_new_tokens": 7},
    "max_length": lambda ids: {"max_new_tokens": None, "max_length": len(PROMPT) + 5},
    "max_new_tokens before max_length": lambda ids: {"max_new_tokens": 9, "max_length": len(PROMPT) + 5},
    "max_time": lambda ids: {"max_time": 1e-9},
    "eos_token_id": lambda ids: {"eos_token_id": ids[5]},
    "eos_token_id, a list with one that never comes": lambda ids: {"eos_token_id": [-1, 5000, ids[6]]},
    "min_new_tokens": lambda ids: {"eos_token_id": ids[3], "min_new_tokens": 9},
    "min_length": lambda ids: {"eos_token_id": ids[3], "min_length": len(PROMPT) + 9},
    "min_new_tokens before min_length": lambda ids: {"eos_token_id": ids[3], "min_new_tokens": 0, "min_length": len(PROMPT) + 9},
    "repetition_penalty": lambda ids: {"repetition_penalty": 1.8},
    "encoder_repetition_penalty": lambda ids: {"encoder_repetition_penalty": 3.0},
    "no_repeat_ngram_size 1": lambda ids: {"no_repeat_ngram_size": 1},
    "no_repeat_ngram_size 2": lambda ids: {"no_repeat_ngram_size": 2, "sequence_bias": bias_to([15], 9.0)},
    "encoder_no_repeat_ngram_size 1": lambda ids: {"encoder_no_repeat_ngram_size": 1, "sequence_bias": bias_to([102, 15], 50.0)},
    "encoder_no_repeat_ngram_size 2": lambda ids: {"encoder_no_repeat_ngram_size": 2, "sequence_bias": bias_to([102, 15], 50.0)},
    "bad_words_ids, one token": lambda ids: {"bad_words_ids": [[ids[0]], [ids[4]]]},
    "bad_words_ids, several tokens": lambda ids: {"bad_words_ids": [ids[2:5]]},
    "bad_words_ids, an end token among them": lambda ids: {"bad_words_ids": [[98], [ids[0]]], "eos_token_id": 98, "min_new_tokens": 3,
                                                               "sequence_bias": bias_to([98], 50.0)},
    "sequence_bias": lambda ids: {"sequence_bias": [[[ids[1]], -4.5], [[33], 2.25]]},
    "sequence_bias of several tokens": lambda ids: {"sequence_bias": [[[ids[0], 33], 80.0], [[*PROMPT, 1, 2], 90.0], [ids[:4], -60.0]]},
    "sequence_bias, the last counts": lambda ids: {"sequence_bias": [[[33], 90.0], [[34], 80.0], [[33], -1.0]]},
    "forced_bos_token_id": lambda ids: {"forced_bos_token_id": 99},
    "forced_eos_token_id": lambda ids: {"forced_eos_token_id": 98},
    "forced_eos_token_id, a list": lambda ids: {"forced_eos_token_id": [98, 97]},
    "forced_eos_token_id, by max_length": lambda ids: {"max_new_tokens": None, "max_length": 12, "forced_eos_token_id": 1},
    "exponential_decay_length_penalty": lambda ids: {"exponential_decay_length_penalty": [4, 1.3]},
    "suppress_tokens": lambda ids: {"suppress_tokens": [ids[0], ids[7], -1, 100000]},
    "begin_suppress_tokens": lambda ids: {"begin_suppress_tokens": [ids[0]]},
    "begin_suppress_tokens behind forced_bos_token_id": lambda ids: {"forced_bos_token_id": 99, "begin_suppress_tokens": list(range(100, 200))},
    "stop_strings": lambda ids: {"stop_strings": "".join(pieces(ids[4:6]))},
    "stop_strings, a list": lambda ids: {"stop_strings": ["not there", pieces(ids)[8], "".join(pieces(ids))]},
    "stop_strings that begin in the prompt": lambda ids: {"stop_strings": "".join(pieces([*PROMPT[-2:], ids[0]]))},
    "stop_strings in a special token": lambda ids: {"stop_strings": ["start_of"], "sequence_bias": bias_to([ids[3], 4], 99.0)},
    "temperature": lambda ids: {**SAMPLED, "temperature": 1e-6},
    "top_k": lambda ids: {**SAMPLED, "top_k": 1},
    "top_p": lambda ids: {**SAMPLED, "top_p": 1e-6},
    "min_p": lambda ids: {**SAMPLED, "min_p": 1.0},
    "top_h": lambda ids: {**SAMPLED, "top_h": 1e-6},
    "typical_p": lambda ids: {**SAMPLED, "typical_p": 1e-6},
    "epsilon_cutoff": lambda ids: {**SAMPLED, "epsilon_cutoff": 0.999},
    "eta_cutoff": lambda ids: {**SAMPLED, **TWO_LIKELY, "eta_cutoff": 0.999},
    "typical_p after top_k": lambda ids: {**SAMPLED, "top_k": 12, "typical_p": 1e-6},
    "renormalize_logits": lambda ids: {"renormalize_logits": True, "no_repeat_ngram_size": 1},
    "remove_invalid_values": lambda ids: {"remove_invalid_values": True, "eos_token_id": ids[3], "min_new_tokens": 15, "exponential_decay_length_penalty": [3, 1.5]},
    "several": lambda ids: {"no_repeat_ngram_size": 1, "repetition_penalty": 1.2, "sequence_bias": bias_to([33], 3.0), "bad_words_ids": [[ids[2]]],
                            "exponential_decay_length_penalty": [2, 1.1], "min_new_tokens": 6, "begin_suppress_tokens": [ids[0]],
                            "suppress_tokens": [ids[5]], "forced_eos_token_id": 97},
}
ONE_TOKEN = {"forced_bos_token_id", "begin_suppress_tokens behind forced_bos_token_id"}  # of the prompt

# name: the fields, which change no id
WITHOUT_EFFECT = {
    "defaults": {key: value for key, value in transformers.GenerationConfig._get_default_generation_params().items() if key != "max_length"},
    "nulls": dict.fromkeys(transformers.GenerationConfig().to_dict(), None) | BASE,
    "cache_implementation": {"cache_implementation": "hybrid", "cache_config": None},
    "no cache": {"use_cache": False},
    "returned": {"return_dict_in_generate": False, "output_scores": True, "output_attentions": True, "output_hidden_states": True, "output_logits": True},
    "beams' without beams": {"num_beams": 1, "early_stopping": True, "length_penalty": 2.0, "num_beam_groups": 1, "diversity_penalty": 0.5},
    "assistant's without one": {"num_assistant_tokens": 5, "num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": 0.9,
                                "assistant_lookbehind": 3, "target_lookbehind": 3, "max_matching_ngram_size": 2, "is_assistant": False},
    "prompt lookup": {"prompt_lookup_num_tokens": 4},
    "encoder's": {"decoder_start_token_id": 3},
    "guidance_scale 1": {"guidance_scale": 1.0},
    "one text": {"num_return_sequences": 1},
    "off": {"no_repeat_ngram_size": 0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 1.0, "token_healing": False, "penalty_alpha": 0.0,
            "suppress_tokens": [], "min_length": 0},
    "sampling's without sampling": {"temperature": 0.1, "top_k": 3, "top_p": 0.1, "min_p": 0.9, "top_h": 0.1, "typical_p": 0.1,
                                    "epsilon_cutoff": 0.9, "eta_cutoff": 0.9},
    "contrastive search's with sampling alone": {"penalty_alpha": 0.6, "top_k": 1, "low_memory": True},
    "about the file": {"transformers_version": "4.50.0", "_from_model_config": False, "_commit_hash": "0"},
    "prefill_chunk_size": {"prefill_chunk_size": 3},
    "disable_compile": {"disable_compile": True},
    "a padding token of -1": {"pad_token_id": -1},
    "an end token that never comes": {"eos_token_id": 100000},
    "an end token below 0": {"eos_token_id": [-5]},
    "a begin token that is none": {"bos_token_id": 100000},
}

# field: values that generate() would do something else with
REFUSED = {
    "num_beams": 4, "num_return_sequences": 2, "guidance_scale": 1.5, "penalty_alpha": 0.6, "dola_layers": "high",
    "constraints": [{}], "force_words_ids": [[5]], "watermarking_config": {"bias": 2.5}, "token_healing": True, "use_mtp": True,
    "is_assistant": True, "assistant_ensemble_weight": 0.5, "assistant_model": "x", "logits_processor": [], "stopping_criteria": [], "streamer": 1,
    "prefix_allowed_tokens_fn": 1, "synced_gpus": True, "negative_prompt_ids": [1], "negative_prompt_attention_mask": [1],
}


def bias_to(tokens, bias):
    return [[[token], bias] for token in tokens]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder whose generation_config.json each case writes."""
    folder = make(tmp_path_factory.mktemp("generation") / "llama", TRAITS["llama-plain"])
    tokenizer = tokenizer_json()
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({chr(0x100 + i): i for i in range(len(vocabulary), VOCABULARY)})  # each id of the model is a token
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    TOKENS.update({i: token.replace("▁", " ") for token, i in vocabulary.items()})
    return folder


TOKENS = {}


@pytest.fixture(scope="module")
def hf(checkpoint):
    return load_hf(checkpoint), transformers.PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))


@pytest.fixture
def ids(tessera, checkpoint, tmp_path):
    """ids(fields): the new ids and what is told."""
    def run(fields, *flags, prompt=PROMPT, expect=0):
        (checkpoint / "generation_config.json").write_text(json.dumps({**BASE, **fields}))
        (tmp_path / "ids.json").write_text(json.dumps(prompt))
        done = tessera.run("run", "-m", checkpoint, "--ids-file", tmp_path / "ids.json", "--print-ids", "--seed", 5, *FLOAT32, *flags, expect=expect)
        return [int(number) for number in re.findall(r"\d+", done.stdout)], done.stderr
    return run


@pytest.fixture
def expected(checkpoint, hf):
    def run(fields, prompt=PROMPT):
        (checkpoint / "generation_config.json").write_text(json.dumps({**BASE, **fields}))
        model, tokenizer = hf
        model.generation_config = transformers.GenerationConfig.from_pretrained(checkpoint)
        torch.manual_seed(0)
        out = model.generate(torch.tensor([prompt]), tokenizer=tokenizer)
        return (out if isinstance(out, torch.Tensor) else out.sequences)[0, len(prompt):].tolist()
    return run


@pytest.mark.parametrize("name", HONOURED)
def test_a_field_does_what_it_does_in_generate(ids, expected, name):
    prompt = PROMPT[3:4] if name in ONE_TOKEN else PROMPT
    plain, _ = ids({}, prompt=prompt)
    assert plain == expected({}, prompt) and len(plain) == NEW
    fields = HONOURED[name](plain)
    without = {key: value for key, value in fields.items() if key != re.match(r"\w+", name)[0] and name != "several"}
    found, told = ids(fields, prompt=prompt)
    assert found == expected(fields, prompt)
    assert found != ids(without, prompt=prompt)[0] or name in WITHOUT_CHANGE, "the ids do not depend on the field"


WITHOUT_CHANGE = {"renormalize_logits"}  # log-softmax keeps the order


@pytest.mark.parametrize("name", HONOURED)
def test_drafts_change_no_id(ids, checkpoint, name):
    prompt = PROMPT[3:4] if name in ONE_TOKEN else PROMPT
    fields = HONOURED[name](ids({}, prompt=prompt)[0])
    alone = ids(fields, prompt=prompt)[0]
    for drafts in ("--draft", checkpoint), ("--prompt-lookup", 6):
        assert ids(fields, *drafts, prompt=prompt)[0] == alone


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_changes_no_id_is_taken(ids, expected, name):
    plain, _ = ids({})
    found, told = ids(WITHOUT_EFFECT[name])
    assert found == plain == expected(WITHOUT_EFFECT[name])
    assert "generate() knows" not in told


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_not_implemented_is_refused_by_name(ids, tessera, checkpoint, field):
    _, told = ids({field: REFUSED[field]}, expect=3)
    assert f"generation_config.json: {field} is " in told and "--generation-config none" in told
    plain, _ = ids({})
    assert ids({field: REFUSED[field]}, "--generation-config", "none", "-n", NEW)[0] == plain
    assert ids({field: None})[0] == plain
    ids({field: REFUSED[field]}, "--generation-config", "none", "-n", 1)
    assert f"{field} is " in tessera.run("inspect", "-m", checkpoint).stdout


def test_each_field_of_transformers_is_in_a_table(checkpoint, measured):
    fields = {key for case in HONOURED.values() for key in case(list(range(40, 40 + NEW)))} | {key for case in WITHOUT_EFFECT.values() for key in case}
    theirs = set(re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(transformers.GenerationConfig.__init__)))
    assert len(theirs) > 60
    missing = theirs - fields - set(REFUSED)
    assert not missing, missing
    measured(f"generation_config.json: of {len(theirs)} fields {len(HONOURED)} cases honoured, {len(WITHOUT_EFFECT)} without effect, {len(REFUSED)} refused")


def test_a_field_that_generate_does_not_know_is_noted(ids):
    plain, _ = ids({})
    found, told = ids({"chat_format": "chatml", "top_q": 3})
    assert found == plain
    assert 'generation_config.json: "chat_format", "top_q": not used: generate() knows no such field' in told


def test_an_end_token_that_never_comes_is_noted(ids):
    assert "eos_token_id is 211: what is outside the vocabulary of 211 never comes" in ids({"eos_token_id": VOCABULARY})[1]


def test_flags_go_before_the_file(ids):
    plain, _ = ids({})
    assert ids({"max_new_tokens": 3}, "-n", 6)[0] == plain[:6]
    assert ids({"max_new_tokens": None, "max_length": 3}, "-n", 6)[0] == plain[:6]
    assert ids({"eos_token_id": plain[2], "min_length": 30}, "--min-new-tokens", 1)[0] == plain[:plain.index(plain[2], 1) + 1]
    assert ids({"do_sample": True}, "--temp", 0)[0] == plain
    assert ids({"repetition_penalty": 3.0}, "--repeat-penalty", 1)[0] == plain
    assert ids({"stop_strings": TOKENS[plain[1]]}, "--stop", TOKENS[plain[4]])[0] == plain[:plain.index(plain[4]) + 1]


def test_a_prompt_beyond_max_length_is_refused(ids):
    _, told = ids({"max_new_tokens": None, "max_length": len(PROMPT)}, expect=2)
    assert f"max_length of generation_config.json is {len(PROMPT)}" in told


def test_another_file_stands_in_for_the_checkpoints(ids, tmp_path):
    plain, _ = ids({})
    (tmp_path / "other.json").write_text(json.dumps({"eos_token_id": plain[4], "max_new_tokens": 11}))
    assert ids({"num_beams": 3}, "--generation-config", tmp_path / "other.json")[0] == plain[:plain.index(plain[4]) + 1]
    _, told = ids({}, "--generation-config", tmp_path / "none.json", expect=3)
    assert "none.json" in told


def test_each_turn_of_a_chat_is_generated_by_the_file(tessera, checkpoint):
    template = checkpoint / "turns.jinja"
    template.write_text("{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n")

    def answers(fields, *flags):
        (checkpoint / "generation_config.json").write_text(json.dumps({**BASE, "max_new_tokens": None, **fields}))
        command = [tessera.path, "chat", "-m", checkpoint, "--template", template, *FLOAT32, *flags]
        return subprocess.run(command, input="abc\nde\n", capture_output=True, text=True, timeout=120)

    plain = answers({}, "-n", "6").stdout.splitlines()
    assert len(plain) == 2 and all(map(len, plain))
    assert answers({"max_new_tokens": 6}).stdout.splitlines() == plain
    assert answers({"max_new_tokens": 6, "suppress_tokens": list(range(100))}).stdout.splitlines() != plain
    stopped = answers({"max_new_tokens": 6, "stop_strings": [line[3:] for line in plain]}).stdout.splitlines()
    assert stopped[0] == plain[0][:3]
    longest = answers({"max_length": 60})
    assert "the prompt has " in longest.stderr and "max_length of generation_config.json is 60" in longest.stderr and longest.stdout
