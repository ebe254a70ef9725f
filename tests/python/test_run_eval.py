"""scripts/run_eval.py: its modes, flags and errors, and the line that programs read."""
import json
import operator
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from bringups import GEMMA3, PHI3
from tessera_package import need_package

tessera = need_package()
torch = pytest.importorskip("torch")
import transformers  # noqa: E402
from evaluations import ROOT, expected_score, load_script, make_tiny, put_into_hub, write_tokenizer  # noqa: E402

from tessera import engine, evaluation  # noqa: E402

KEYS = ["mode", "trace", "top1", "top5", "prefill_len", "decode_len", "batch", "total"]
run_eval = load_script("scripts/run_eval.py")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("phi3") / "tiny")


@pytest.fixture
def evaluate(tiny, capsys, monkeypatch):
    """Runs the script in this process: what it prints, and what YT_METRICS holds."""
    def run(*arguments, mode="tt", model=tiny):
        monkeypatch.setattr(sys, "argv", ["run_eval.py", "--mode", mode, "--hf-model", str(model), *map(str, arguments)])
        run_eval.main()
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith("YT_METRICS={") and sum("YT_METRICS" in line for line in lines) == 1
        return SimpleNamespace(lines=lines, **{"metrics": json.loads(lines[-1].removeprefix("YT_METRICS="))})
    return run


def refused(evaluate, capsys, said, *arguments, **options):
    with pytest.raises(SystemExit) as stopped:
        evaluate(*arguments, **options)
    told = str(stopped.value.code) + capsys.readouterr().err
    assert said in told and "YT_METRICS" not in told


def test_the_metrics_begin_with_the_known_keys_in_their_order(evaluate):
    done = evaluate("--system", "cpu", "--trace", 1)
    assert list(done.metrics)[:8] == KEYS
    assert {key: done.metrics[key] for key in KEYS if "top" not in key} == {"mode": "tt", "trace": True, "prefill_len": 20, "decode_len": 20, "batch": 1, "total": 20}
    assert done.lines[0] == f"Bring-up: models/{PHI3}/cpu/functional/model.py"
    assert done.lines[1] == f"Top-1 accuracy: {100 * done.metrics['top1']:.2f}% ({done.metrics['top1']:.4f})"
    assert done.lines[2] == f"Top-5 accuracy: {100 * done.metrics['top5']:.2f}% ({done.metrics['top5']:.4f})"
    assert done.lines[-1].startswith('YT_METRICS={"mode": "tt", "trace": true, "top1": ')


def test_hugging_faces_own_model_agrees_with_itself(evaluate, tmp_path):
    config = transformers.GPT2Config(vocab_size=211, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(1)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    write_tokenizer(tmp_path / "gpt2", 1)
    put_into_hub(tmp_path / "gpt2", tmp_path / "cache", "someone/tiny-gpt2")
    for model, where in (tmp_path / "gpt2", ()), ("someone/tiny-gpt2", ("--cache-dir", tmp_path / "cache")):
        metrics = evaluate("--prefill-len", 8, "--decode-len", 4, *where, mode="hf", model=model).metrics
        assert metrics["top1"] >= 0.99 and metrics["top5"] >= 0.99 and metrics["total"] == 4 and metrics["mode"] == "hf"
    assert evaluate("--prefill-len", 8, "--decode-len", 4, "--batch", 2, "--prefill-decode", mode="hf", model=tmp_path / "gpt2").metrics["top1"] == 1


def test_prompts_are_the_sentence_over_and_over():
    tokenizer = lambda text: {"input_ids": [1] + [len(word) for word in text.split()]}  # noqa: E731
    sentence = [1, 3, 5, 5, 3, 5, 4, 3, 4, 4]
    first, second, third = run_eval.prompts(tokenizer, 23, 3)
    assert first == sentence * 2 + sentence[:3]
    assert len({tuple(first), tuple(second), tuple(third)}) == 3 and all(sorted(row[:10]) == sorted(sentence) for row in (second, third))
    assert run_eval.prompts(tokenizer, 4, 1) == [sentence[:4]]


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_each_row_of_a_batch_is_compared_with_its_own_reference(evaluate, tiny, batch):
    metrics = evaluate("--system", "cpu", "--prefill-len", 16, "--decode-len", 8, "--batch", batch, "--dtype", "bfloat4_b").metrics
    rows = run_eval.prompts(transformers.AutoTokenizer.from_pretrained(tiny), 16, batch)
    hf = evaluation.load_reference_model(tiny)
    scores = []
    for row in rows:
        fed = hf.generate(torch.tensor([row]), do_sample=False, max_new_tokens=8)[0, 16:].tolist()
        scores.append((len(fed), expected_score(PHI3, tiny, row, fed, choices=fed, weights="bfloat4_b")))
    total = sum(length for length, _ in scores)
    assert (metrics["total"], metrics["batch"]) == (total, batch)
    assert metrics["top1"] == pytest.approx(sum(score.top1 for _, score in scores) / total)
    assert metrics["top5"] == pytest.approx(sum(score.top5 for _, score in scores) / total)
    assert metrics["kl"] == pytest.approx(sum(length * score.kl for length, score in scores) / total, rel=1e-4)


def test_rows_of_a_batch_may_end_early(evaluate, tmp_path):
    tiny = make_tiny(tmp_path / "tiny")
    hf = evaluation.load_reference_model(tiny)
    rows = run_eval.prompts(transformers.AutoTokenizer.from_pretrained(tiny), 16, 3)
    alone = [hf.generate(torch.tensor([row]), do_sample=False, max_new_tokens=8)[0, 16:].tolist() for row in rows]
    end = next(token for row in alone for token in row[1:5])
    lengths = [row.index(end) + 1 if end in row else 8 for row in alone]
    (tiny / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    metrics = evaluate("--system", "cpu", "--prefill-len", 16, "--decode-len", 8, "--batch", 3, "--dtype", "float32", model=tiny).metrics
    assert metrics["total"] == sum(lengths) < 24 and metrics["top1"] == 1 and metrics["decode_len"] == 8
    metrics = evaluate("--system", "cpu", "--prefill-len", 16, "--decode-len", 8, "--batch", 3, "--dtype", "bfloat4_b", model=tiny).metrics
    kl = [expected_score(PHI3, tiny, row, fed[:length], weights="bfloat4_b").kl for row, fed, length in zip(rows, alone, lengths)]
    assert metrics["kl"] == pytest.approx(sum(map(operator.mul, kl, lengths)) / sum(lengths), rel=1e-4), "each token counts the same"


@pytest.mark.parametrize("length, flags, pieces", [(16, (), [16] + [1] * 7), (16, ("--prefill-decode",), [1] * 23), (512, (), [512] + [1] * 7), (600, (), [1] * 607)])
def test_a_long_prompt_goes_in_one_token_at_a_time(evaluate, monkeypatch, length, flags, pieces):
    seen = []
    forward = engine.Engine.forward
    monkeypatch.setattr(engine.Engine, "forward", lambda self, rows, ids, mask, keep: seen.append(ids.shape[1]) or forward(self, rows, ids, mask, keep))
    metrics = evaluate("--system", "cpu", "--prefill-len", length, "--decode-len", 8, "--dtype", "float32", *flags).metrics
    assert seen == pieces
    assert (metrics["prefill_len"], metrics["total"], metrics["prefill_decode"]) == (length, 8, pieces[0] == 1)
    assert 8 - metrics["top1"] * 8 == metrics["ties_missed"]


def test_max_seq_len_grows_with_the_lengths(evaluate, monkeypatch):
    asked = []
    load = evaluation.load_bringup

    def spy(path):
        module = load(path)
        build = module.build_model
        module.build_model = lambda model, device, max_seq_len, **precision: asked.append(max_seq_len) or build(model, device, max_seq_len, **precision)
        return module
    monkeypatch.setattr(evaluation, "load_bringup", spy)
    evaluate("--system", "cpu", "--prefill-len", 16, "--decode-len", 8)
    with pytest.raises(SystemExit, match="the model's context ends at 2048"):
        evaluate("--system", "cpu", "--prefill-len", 2050, "--decode-len", 10)
    assert asked == [2048, 2060]


def test_the_system_is_n150_unless_named(evaluate, capsys, monkeypatch):
    refused(evaluate, capsys, "RuntimeError: n150")
    monkeypatch.setenv("YT_SYSTEM", "cpu")
    assert evaluate("--decode-len", 4).metrics["system"] == "cpu"
    monkeypatch.delenv("YT_SYSTEM")
    done = evaluate("--system", "n150", "--device", "cpu", "--decode-len", 4)
    assert done.lines[0] == f"Bring-up: models/{PHI3}/n150/functional/model.py"
    assert done.metrics["twin"] is None
    assert evaluate("--system", "n150", "--device", "cpu", "--twin", "card", "--decode-len", 4).metrics["twin"] == "card"


def test_an_id_has_its_own_bringup_and_a_directory_that_of_its_architecture(evaluate, capsys, tmp_path):
    gemma3 = make_tiny(tmp_path / "tiny", "GEMMA3")
    put_into_hub(gemma3, tmp_path / "cache", GEMMA3)
    done = evaluate("--system", "cpu", "--decode-len", 4, "--cache-dir", tmp_path / "cache", model=GEMMA3)
    assert done.lines[0] == f"Bring-up: models/{GEMMA3}/cpu/functional/model.py"
    assert evaluate("--system", "cpu", "--decode-len", 4, model=gemma3).lines[0] == done.lines[0]
    for folder, name in ("other", "humain-ai/ALLaM-7B-Instruct-preview"), ("Llama-3.2-1B", "meta-llama/Llama-3.2-1B"):
        llama = make_tiny(tmp_path / folder, "LLAMA")  # of several bring-ups the one of its name, or the first
        assert evaluate("--system", "cpu", "--decode-len", 4, model=llama).lines[0] == f"Bring-up: models/{name}/cpu/functional/model.py"
    refused(evaluate, capsys, "no bring-up", "--system", "cpu", model="someone/else")
    refused(evaluate, capsys, "scripts/new_bringup.py someone/else cpu writes one", "--system", "cpu", model="someone/else")
    (gemma3 / "config.json").write_text(json.dumps(json.loads((gemma3 / "config.json").read_text()) | {"model_type": "other", "architectures": ["Other"]}))
    refused(evaluate, capsys, "no bring-up of a other on cpu", "--system", "cpu", model=gemma3)


def test_a_reference_is_saved_and_used_again(evaluate, tmp_path, monkeypatch):
    arguments = ("--system", "cpu", "--dtype", "bfloat4_b")
    for name in "reference.json", "reference.refpt":
        first = evaluate(*arguments, "--save-reference", tmp_path / name).metrics
    monkeypatch.setattr(evaluation, "load_reference_model", None)
    again = evaluate(*arguments, "--reference", tmp_path / "reference.json").metrics
    assert [again[key] for key in ("top1", "top5", "kl")] == [first[key] for key in ("top1", "top5", "kl")]
    again = evaluate(*arguments, "--reference", tmp_path / "reference.refpt").metrics
    assert [again[key] for key in ("top1", "top5", "kl")] == [first["top1"], first["top5"], None]


@pytest.mark.parametrize("arguments, said", [
    (("--batch", 0), "ValueError: --batch: 0 is below 1"),
    (("--prefill-len", 0), "ValueError: --prefill-len: 0 is below 1"),
    (("--decode-len", 0), "ValueError: --decode-len: 0 is below 1"),
    (("--trace", 2), "--trace"),
    (("--batch", 2, "--reference", "r.json"), "ValueError: --batch: 2; a saved reference has one prompt"),
    (("--reference", "r.json", "--save-reference", "s.json"), "ValueError: --reference"),
    (("--system", "n300"), "no bring-up"),
    (("--system", "cpu", "--device", "gpu"), "'gpu' is not a device"),
    (("--system", "cpu", "--dtype", "int8"), "int8"),
    (("--system", "n150", "--twin", "card"), "ValueError: --twin: card is of --device cpu; the device is n150"),
    (("--system", "cpu", "--twin", "card", "--dtype", "float32"), "card mode does not take"),
])
def test_what_cannot_be_done_is_refused(evaluate, capsys, arguments, said):
    refused(evaluate, capsys, said, *arguments)


@pytest.mark.parametrize("arguments", [["--mode", "tt"], ["--hf-model", "x"], ["--mode", "gpu", "--hf-model", "x"]])
def test_the_mode_and_the_model_must_be_given(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_eval.parse(arguments)
    assert stopped.value.code == 2


def test_the_command_prints_its_metrics_last(tiny):
    done = subprocess.run([sys.executable, "scripts/run_eval.py", "--mode", "tt", "--hf-model", str(tiny)], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"YT_SYSTEM": "cpu"})
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout.splitlines()[-1].removeprefix("YT_METRICS="))["total"] == 20
