"""eval.py: its flags, its lines, its errors, and its numbers against NumPy over one forward of each side."""
import json
import os
import pickle
import re
import subprocess
import sys

import pexpect
import pytest
from bringups import GEMMA3, MODELS, PHI3
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
from evaluations import ROOT, expected_score, load_script, make_tiny, put_into_hub  # noqa: E402

from tessera import engine, evaluation, runs  # noqa: E402

PATHS = {(name, system): str(MODELS / name / system / "functional/model.py") for name in (GEMMA3, PHI3) for system in ("cpu", "n150")}
CPU = PATHS[PHI3, "cpu"]
PROMPT = "1 2 3 4 5 6 7 8 9 10 11 12"
eval_script = load_script("eval.py")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("phi3") / "tiny")


@pytest.fixture
def evaluate(tiny, capsys):
    """Runs eval.py in this process: its lines, and its Score."""
    def run(*arguments, path=CPU, model=tiny):
        args = eval_script.parse([path, "--model", str(model), *map(str, arguments)])
        args.command = "python eval.py"
        score = eval_script.run(args)
        return capsys.readouterr().out.splitlines(), score
    return run


@pytest.fixture
def no_hugging_face(monkeypatch):
    def refuse(*_):
        raise AssertionError("the Hugging Face model is not needed here")
    monkeypatch.setattr(evaluation, "load_reference_model", refuse)


def test_the_lines_come_in_their_order(evaluate):
    lines, score = evaluate()
    assert lines[:9] == [f"Loading model module: {CPU}", "Loading HuggingFace tokenizer...", "Loading HuggingFace reference model on CPU...",
                         "Generating reference tokens...", "Opening device...", "Loading ttnn model...", "Running teacher-forcing eval (20 tokens)...",
                         f"Top-1 accuracy: {5 * score.top1:.2f}% ({score.top1 / 20:.4f})", f"Top-5 accuracy: {5 * score.top5:.2f}% ({score.top5 / 20:.4f})"]
    assert re.fullmatch(r"Reference: 20 tokens, \d+ distinct, \d+ ties, \d+ of them chosen otherwise", lines[9])
    assert re.fullmatch(r"KL\(reference \|\| model\): \d+\.\d{6}; perplexity: \d+\.\d{4}", lines[10]) and len(lines) == 11


@pytest.mark.parametrize("name, family", [(PHI3, "PHI3"), (GEMMA3, "GEMMA3")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat4_b"])
def test_the_score_is_that_of_one_forward_of_each_side(evaluate, tmp_path, name, family, dtype):
    tiny = make_tiny(tmp_path / "tiny", family)
    file = tmp_path / "reference.json"
    lines, score = evaluate("--max_new_tokens", 40, "--dtype", dtype, "--save_reference", file, path=PATHS[name, "cpu"], model=tiny)
    saved = json.loads(file.read_text())
    expected = expected_score(name, tiny, saved["prompt_ids"], saved["reference_ids"], weights=dtype,
                              activations="float32" if dtype == "float32" else "bfloat16")
    assert expected.choices == saved["reference_ids"] and score.total == len(saved["reference_ids"]) > 10
    assert score.distinct == len(set(saved["reference_ids"]))
    assert (score.top1, score.top5) == (expected.top1, expected.top5)
    assert score.kl == pytest.approx(expected.kl, rel=1e-4, abs=1e-9) and score.perplexity == pytest.approx(expected.perplexity, rel=1e-5)
    if dtype == "float32":
        assert score.total - score.top1 == score.ties_missed and score.kl < 1e-6
    else:
        assert score.kl > 1e-3


def test_a_prompt_comes_as_text_as_a_file_and_as_ids(evaluate, tiny, tmp_path):
    text, ids = tmp_path / "prompt.txt", tmp_path / "ids.json"
    text.write_text(PROMPT)
    saved = tmp_path / "reference.json"

    def reference_of(*arguments):
        evaluate(*arguments, "--save_reference", saved)
        return {name: value for name, value in json.loads(saved.read_text()).items() if name != "made_by"}
    expected = reference_of()
    assert json.loads(saved.read_text())["made_by"].endswith(f"Phi3ForCausalLM, float32, of {PROMPT}")
    prompt = expected["prompt_ids"]
    assert prompt == [1] + list(range(13, 25))  # <s> and the words 1 to 12
    ids.write_text(json.dumps(prompt))
    for flag, value in ("--prompt", PROMPT), ("--prompt_file", text), ("--prompt_ids_file", ids):
        assert reference_of(flag, value) == expected
        assert flag == "--prompt" or json.loads(saved.read_text())["made_by"].endswith(f", of {value.name}")
    (tiny / "tokenizer.json").rename(tiny / "away")
    try:
        lines, _ = evaluate("--prompt_ids_file", ids, "--save_reference", saved)
    finally:
        (tiny / "away").rename(tiny / "tokenizer.json")
    assert json.loads(saved.read_text())["top5_ids"] == expected["top5_ids"] and "Loading HuggingFace tokenizer..." not in lines


@pytest.mark.parametrize("one, other", [("--prompt_file", "--prompt_ids_file"), ("--prompt", "--prompt_file"), ("--text", "--prompt"), ("--reference", "--text")])
def test_two_prompts_are_a_usage_error(one, other, capsys):
    with pytest.raises(SystemExit) as stopped:
        eval_script.parse([CPU, one, "a", other, "b"])
    assert stopped.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_a_generation_that_ends_early_is_said(evaluate, tmp_path):
    tiny, file = make_tiny(tmp_path / "tiny"), tmp_path / "reference.json"
    evaluate("--save_reference", file, model=tiny)
    tokens = json.loads(file.read_text())["reference_ids"]
    end = tokens[3]
    at = tokens.index(end) + 1
    (tiny / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    lines, score = evaluate(model=tiny)
    assert f"Reference generation stopped early (requested 20, got {at}). Evaluating available tokens." in lines
    assert f"Running teacher-forcing eval ({at} tokens)..." in lines and score.total == at
    lines, score = evaluate("--min_new_tokens", 20, "--save_reference", file, model=tiny)
    assert not any("stopped early" in line for line in lines) and score.total == 20
    assert end not in json.loads(file.read_text())["reference_ids"]


def test_no_new_tokens_are_nothing_to_evaluate(evaluate):
    lines, score = evaluate("--max_new_tokens", 0)
    assert lines[-1] == "No tokens to evaluate." and score.total == 0


def test_prefill_decode_feeds_one_token_at_a_time_and_gives_the_same(evaluate, monkeypatch):
    pieces = []
    forward = engine.Engine.forward
    monkeypatch.setattr(engine.Engine, "forward", lambda self, rows, ids, mask, keep: pieces.append(ids.shape[1]) or forward(self, rows, ids, mask, keep))
    _, score = evaluate("--dtype", "bfloat4_b")
    assert pieces == [13] + [1] * 19
    pieces.clear()
    _, again = evaluate("--dtype", "bfloat4_b", "--prefill_decode")
    assert pieces == [1] * 32
    assert (again.top1, again.top5, again.kl, again.perplexity) == (score.top1, score.top5, score.kl, score.perplexity)


def test_a_mesh_is_named_and_more_than_one_device_refused(evaluate, tmp_path, monkeypatch):
    monkeypatch.setenv("TT_MESH_GRAPH_DESC_PATH", "/somewhere/mesh.textproto")
    path = tmp_path / "model.py"
    path.write_text((MODELS / PHI3 / "cpu/functional/model.py").read_text() + "\nMESH_SHAPE = (1, 1)\n")
    lines, _ = evaluate("--max_new_tokens", 2, path=str(path))
    at = lines.index("Using TT_MESH_GRAPH_DESC_PATH=/somewhere/mesh.textproto")
    assert lines[at + 1:at + 3] == ["Opening mesh device: (1, 1)...", "Loading ttnn model..."]
    path.write_text(path.read_text().replace("(1, 1)", "(1, 2)"))
    with pytest.raises(ValueError, match=r"MESH_SHAPE: \(1, 2\)"):
        evaluate("--max_new_tokens", 2, path=str(path))


def test_the_device_is_the_bringups_own_or_the_one_named(evaluate, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "load_reference_model", None)  # refused before it is loaded
        for arguments in ((), ("--device", "n150")):
            with pytest.raises(RuntimeError, match="n150"):
                evaluate(*arguments, path=PATHS[PHI3, "n150"])
        with pytest.raises(ValueError, match="'gpu' is not a device"):
            evaluate("--device", "gpu")
        with pytest.raises(ValueError, match="--device_id: 1; the cpu"):
            evaluate("--device_id", 1)
        with pytest.raises(ValueError, match="--twin: card is of --device cpu; the device is n150"):
            evaluate("--twin", "card", path=PATHS[PHI3, "n150"])
    tiny, run = make_tiny(tmp_path / "tiny", "GEMMA3"), tmp_path / "run.json"
    evaluate("--device", "cpu", "--device_id", 0, "--seed", 3, "--save_run", run, path=PATHS[GEMMA3, "n150"], model=tiny)
    saved = runs.read_run(run)
    assert saved["precision"] == {"weights": "bfloat8_b", "activations": "bfloat16", "cache": "bfloat16"}, "the card's precision, on the cpu"
    assert "twin" not in saved["machine"]
    evaluate("--device", "cpu", "--twin", "card", "--save_run", run, path=PATHS[GEMMA3, "n150"], model=tiny)
    assert runs.read_run(run)["machine"]["twin"] == "card"
    assert (saved["system"], saved["device"]) == ("n150", "cpu")


@pytest.mark.parametrize("arguments, error, said", [
    (("--max_seq_len", 2047), ValueError, "--max_seq_len: 2047 is below 2048"),
    (("--max_new_tokens", 2036), ValueError, "13 tokens and 2036 follow it; --max_seq_len is 2048"),
    (("--max_new_tokens", -1), ValueError, "--max_new_tokens: -1 is below 0"),
    (("--min_new_tokens", 30), ValueError, "--max_new_tokens: 20 is below 30"),
    (("--prompt_file", "/no/such/file"), FileNotFoundError, "/no/such/file"),
    (("--prompt_ids_file", "IDS"), ValueError, "IDS is no JSON list"),
    (("--reference", "/no/such/file.json"), tessera.FileError, "/no/such/file.json"),
    (("--reference", "/no/such/file.refpt"), tessera.FileError, "/no/such/file.refpt"),
    (("--reference", "r.json", "--save_reference", "s.json"), ValueError, "--save_reference"),
])
def test_what_cannot_be_done_is_refused(evaluate, tmp_path, monkeypatch, arguments, error, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "IDS").write_text('["1"]')
    with pytest.raises(error, match=re.escape(said)):
        evaluate(*arguments)


def test_ids_outside_the_vocabulary_and_no_prompt_are_refused(evaluate, tmp_path):
    ids = tmp_path / "ids.json"
    for content, said in ("[5, 211]", "token 211; the vocabulary has 211"), ("[]", "has no tokens"):
        ids.write_text(content)
        with pytest.raises(ValueError, match=said):
            evaluate("--prompt_ids_file", ids)


def test_bringups_that_are_none_are_refused(evaluate, tmp_path, no_hugging_face):
    with pytest.raises(FileNotFoundError, match="no such file"):
        evaluate(path=str(tmp_path / "model.py"))
    (tmp_path / "model.py").write_text("")
    with pytest.raises(ValueError, match="has no build_model"):
        evaluate(path=str(tmp_path / "model.py"))
    with pytest.raises(tessera.FileError, match="no such directory|no/such"):
        evaluate(model="/no/such/checkpoint")


def test_an_id_is_found_in_cache_dir(evaluate, tiny, tmp_path):
    put_into_hub(tiny, tmp_path / "cache", "someone/tiny")
    _, score = evaluate("--cache_dir", tmp_path / "cache", model="someone/tiny")
    assert score.kl == evaluate()[1].kl


@pytest.mark.parametrize("name, family", [(PHI3, "PHI3"), (GEMMA3, "GEMMA3")])
def test_a_text_is_judged_at_each_of_its_tokens(evaluate, tmp_path, name, family):
    path, tiny = PATHS[name, "cpu"], make_tiny(tmp_path / "tiny", family)
    text, file = tmp_path / "text.txt", tmp_path / "reference.json"
    text.write_text(" ".join(str(1 + i * 7 % 59) for i in range(150)))
    lines, score = evaluate("--text", text, "--dtype", "bfloat4_b", "--save_reference", file, path=path, model=tiny)
    saved = json.loads(file.read_text())
    expected = expected_score(name, tiny, saved["prompt_ids"], saved["forced_ids"], weights="bfloat4_b")
    assert score.total == 150 and (score.top1 < 150 or name == GEMMA3) and saved["reference_ids"] == expected.choices
    assert (score.top1, score.top5) == (expected.top1, expected.top5)
    assert score.kl == pytest.approx(expected.kl, rel=1e-4) and score.perplexity == pytest.approx(expected.perplexity, rel=1e-5)
    assert "Running teacher-forcing eval (150 tokens)..." in lines
    text.write_text("5 " * 3000)
    with pytest.raises(ValueError, match="the text has 3001 tokens; --max_seq_len is 2048"):
        evaluate("--text", text, path=path, model=tiny)


def test_a_saved_reference_is_used_again_without_hugging_face(evaluate, tmp_path, request):
    file, refpt = tmp_path / "reference.json", tmp_path / "reference.refpt"
    _, first = evaluate("--dtype", "bfloat4_b", "--save_reference", file)
    evaluate("--dtype", "bfloat4_b", "--save_reference", refpt)
    request.getfixturevalue("no_hugging_face")
    lines, again = evaluate("--dtype", "bfloat4_b", "--reference", file)
    assert (again.top1, again.top5, again.kl, again.ties) == (first.top1, first.top5, first.kl, first.ties)
    assert lines[1:3] == [f"Using reference: {file}", "Opening device..."]
    lines, short = evaluate("--dtype", "bfloat4_b", "--reference", refpt)
    assert (short.top1, short.top5, short.kl, short.ties) == (first.top1, first.top5, None, None)
    assert short.perplexity == pytest.approx(first.perplexity, rel=1e-9)
    assert lines[-2:] == [f"Reference: 20 tokens, {first.distinct} distinct", f"perplexity: {first.perplexity:.4f}"]


def test_a_refpt_holds_the_five_best_behind_every_token(evaluate, tiny, tmp_path):
    from bringups import load_hf
    path = tmp_path / "reference.refpt"
    evaluate("--save_reference", path)
    saved = torch.load(path, weights_only=True)
    assert saved["reference_tokens"].shape == (1, 33) and saved["top5_tokens"].shape == (32, 5)
    with torch.no_grad():
        rows = load_hf(tiny)(input_ids=saved["reference_tokens"][:, :-1]).logits[0]
    assert torch.equal(saved["top5_tokens"], rows.topk(5).indices)
    del saved["prompt_tokens"]  # as others write it: the first half is the prompt
    for rows_kept in 32, 33:
        torch.save(saved | {"top5_tokens": torch.cat([saved["top5_tokens"], torch.zeros((1, 5), dtype=torch.long)])[:rows_kept]}, path)
        lines, score = evaluate("--reference", path, "--dtype", "float32")
        assert score.total == score.top1 == 17 and "Running teacher-forcing eval (17 tokens)..." in lines


def test_a_refpt_runs_no_code_and_must_fit_together(evaluate, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)
    path = tmp_path / "reference.refpt"
    path.write_bytes(pickle.dumps({"reference_tokens": Trap()}))
    with pytest.raises(tessera.FileError, match="reference.refpt: is no reference"):
        evaluate("--reference", path)
    torch.save({"reference_tokens": Trap(), "top5_tokens": Trap()}, path)
    with pytest.raises(tessera.FileError, match="reference.refpt: is no reference"):
        evaluate("--reference", path)
    assert not (tmp_path / "trapped").exists()
    for content in {}, {"reference_tokens": torch.ones((1, 9), dtype=torch.long), "top5_tokens": torch.ones((7, 5), dtype=torch.long)}:
        torch.save(content, path)
        with pytest.raises(tessera.FileError, match="reference.refpt: is no reference"):
            evaluate("--reference", path)


def test_a_run_is_saved_whole(evaluate, tiny, tmp_path):
    path = tmp_path / "run.json"
    _, score = evaluate("--dtype", "float32", "--save_run", path)
    run = runs.read_run(path)
    assert {name: run[name] for name in vars(score)} == vars(score)
    assert run["prompt_tokens"] == 13 and run["text"] == PROMPT and run["reference"].startswith("transformers ") and run["forced"] is False and run["command"] == "python eval.py"
    assert run["precision"] == {"weights": "float32", "activations": "float32", "cache": "float32"}
    assert run["checkpoint"]["name"] == "tiny" and len(run["checkpoint"]["sha256"]) == 64
    assert run["tokens_per_second"] > 0 and run["memory_bytes"] >= 0 and re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])


def test_the_command_shows_progress_on_a_terminal_alone(tiny):
    arguments = ["eval.py", CPU, "--model", str(tiny)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert re.search(r"^Top-5 accuracy: \d+\.\d\d% \([01]\.\d{4}\)$", done.stdout, re.M)
    shown = pexpect.run(f"{sys.executable} {' '.join(arguments)}", cwd=ROOT, encoding="utf-8", timeout=120)
    assert "teacher forcing" in shown and "reference:" in shown and "Top-5 accuracy" in shown


def test_an_error_is_one_line(tiny):
    done = subprocess.run([sys.executable, "eval.py", CPU, "--model", str(tiny), "--max_seq_len", "1024"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "ValueError: --max_seq_len: 1024 is below 2048\n")
