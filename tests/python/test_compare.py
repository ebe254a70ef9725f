"""`tessera compare`: it names the op of each planted fault, against Hugging Face's forward and against the sound checkpoint."""
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from parity import prompt_ids
from safetensors.torch import load_file, save_file
from tessera_package import need_package
from tessera_program import FLOAT32
from tiny_checkpoints import GEMMA3, TRAITS, make, make_multimodal, row
from transformers import AutoConfig, AutoModelForCausalLM

need_package()
from tessera import compare as hf_side  # noqa: E402
from tessera import recording  # noqa: E402

TOKENS = 100  # past the windows of 4 and LongRoPE's 32, and more than one piece of the prompt
SQUARE = row(GEMMA3, hidden_size=128)  # 4 heads of 32: q_proj and o_proj are square
SOUND = {"gemma": SQUARE, "phi": TRAITS["phi3-partial-rotary-window-9"]}


def prompt(count=TOKENS):
    return torch.randint(3, 199, (count,), generator=torch.Generator().manual_seed(count)).tolist()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Of each family, a checkpoint and Hugging Face's recording of it."""
    folder = tmp_path_factory.mktemp("sound")
    made = {name: make(folder / name, row) for name, row in SOUND.items()}
    for name, checkpoint in made.items():
        recording.record(recording.load(checkpoint), prompt(), folder / f"{name}.safetensors")
    (folder / "ids.json").write_text(json.dumps(prompt()))
    return {name: (checkpoint, folder / f"{name}.safetensors", folder / "ids.json") for name, checkpoint in made.items()}


def compare(tessera, checkpoint, *arguments):
    return json.loads(tessera.run("compare", "-m", checkpoint, *FLOAT32, *arguments, "--json", "-").stdout)


def with_config(change):
    def plant(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
    return plant


def with_tensor(name, change):
    def plant(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors[name] = change(tensors[name]).contiguous()
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return plant


def set_rope(**layers):
    """Rotary embeddings in the newer spelling, those of the tiny Gemma but for what is changed."""
    def change(config):
        thetas = {"sliding_attention": config.pop("rope_local_base_freq"), "full_attention": config.pop("rope_theta")}
        config["rope_parameters"] = {layer: {"rope_type": "default", "rope_theta": theta, **layers.get(layer, {})}
                                     for layer, theta in thetas.items()}
    return with_config(change)


FACTOR = {"rope_type": "linear", "factor": 8.0}
LAYER = "model.layers."


def set_field(**fields):
    return with_config(lambda config: config.update(fields))


def transposed(name):
    return with_tensor(LAYER + name, lambda weight: weight.T)


def less_one(name):
    return with_tensor(LAYER + name, lambda weight: weight - 1)


FAULTS = {  # name -> (family, how it is planted, the op that must be named, the first token that shows it)
    "rope factor on sliding layers": ("gemma", set_rope(sliding_attention=FACTOR), "layers.0.rotary_embedding.q", 1),
    "rope factor on full layers": ("gemma", set_rope(full_attention=FACTOR), "layers.2.rotary_embedding.q", 1),
    "another local base": ("gemma", set_field(rope_local_base_freq=10000.0), "layers.0.rotary_embedding.q", 1),
    "a dropped 1 + w": ("gemma", less_one("1.pre_feedforward_layernorm.weight"), "layers.1.pre_feedforward_layernorm", 0),
    "a dropped 1 + w of keys": ("gemma", less_one("3.self_attn.k_norm.weight"), "layers.3.self_attn.k_norm", 0),
    "a transposed output projection": ("gemma", transposed("2.self_attn.o_proj.weight"), "layers.2.self_attn.o_proj", 0),
    "a transposed query projection": ("gemma", transposed("1.self_attn.q_proj.weight"), "layers.1.self_attn.qkv_proj", 0),
    "a transposed projection of Phi-3": ("phi", transposed("1.self_attn.o_proj.weight"), "layers.1.self_attn.o_proj", 0),
    "the window one too large": ("gemma", set_field(sliding_window=5), "layers.0.attention", 4),
    "the window one too small": ("gemma", set_field(sliding_window=3), "layers.0.attention", 3),
    "the window of Phi-3 one too large": ("phi", set_field(sliding_window=10), "layers.0.attention", 9),
    "another part of a head rotates": ("phi", set_field(partial_rotary_factor=1.0), "layers.0.rotary_embedding.q", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_op_of_a_planted_fault_is_named(tessera, sound, tmp_path, fault):
    family, plant, op, token = FAULTS[fault]
    checkpoint, hf, ids = sound[family]
    faulty = tmp_path / "faulty"
    shutil.copytree(checkpoint, faulty)
    plant(faulty)
    for other in (("--against", hf), ("--model-b", checkpoint, "--ids-file", ids)):
        facts = compare(tessera, faulty, *other)
        assert facts["first_below"] == op, other
        (found,) = [entry for entry in facts["ops"] if entry["name"] == op]
        assert found["first_token_below"] == token
        assert f"First op below PCC 0.99999999: {op}" in tessera.run("compare", "-m", faulty, *FLOAT32, *other).stdout


def assert_every_op_agrees(facts, tokens=TOKENS):
    assert facts["first_below"] is None and facts["only_a"] == facts["only_b"] == [] and facts["tokens"] == tokens
    worst = max(facts["ops"], key=lambda op: op["relative_error"])
    assert worst["relative_error"] < 1e-5, worst["name"]


@pytest.mark.parametrize("name", ["gemma3-softcap", "gemma3-one-key-head", "phi3-grouped-queries", "phi3-longrope-old", "phi3-tied",
                                  "llama-biases", "mistral-window-4", "qwen2-large-biases", "qwen3-layer-types"])
def test_every_op_of_a_sound_model_is_hugging_faces(tessera, tmp_path, name):
    checkpoint = make(tmp_path / "tiny", TRAITS[name])
    recording.record(recording.load(checkpoint), prompt(), tmp_path / "hf.safetensors")
    assert_every_op_agrees(compare(tessera, checkpoint, "--against", tmp_path / "hf.safetensors"))


def test_every_op_of_the_sound_models_is_hugging_faces(tessera, sound, measured):
    for family, (checkpoint, hf, _) in sound.items():
        facts = compare(tessera, checkpoint, "--against", hf)
        assert_every_op_agrees(facts)
        worst = max(op["relative_error"] for op in facts["ops"])
        measured(f"compare, tiny {family}: {len(facts['ops'])} ops, relative error to Hugging Face at most {worst:.1e}")


def test_a_multimodal_model_is_recorded_as_its_language_model(tessera, tmp_path):
    checkpoint = make_multimodal(tmp_path / "tiny", "hub")
    recording.record(recording.load(checkpoint), prompt(20), tmp_path / "hf.safetensors")
    assert_every_op_agrees(compare(tessera, checkpoint, "--against", tmp_path / "hf.safetensors"), 20)


def test_a_recording_holds_hugging_faces_hidden_states(sound, tmp_path):
    checkpoint, hf, _ = sound["gemma"]
    tensors = load_file(hf)
    model = recording.load(checkpoint)
    with torch.no_grad():
        out = model(torch.tensor([prompt()]), output_hidden_states=True, use_cache=False)
    assert tensors["input_ids"].tolist() == prompt()
    assert torch.equal(tensors["mul"], out.hidden_states[0][0])
    for number in range(3):  # the last of hidden_states is behind the final norm
        assert torch.equal(tensors[f"layers.{number}.add_2"], out.hidden_states[number + 1][0])
    assert torch.equal(tensors["norm"], out.hidden_states[4][0])
    assert torch.allclose(tensors["lm_head"], out.logits[0], atol=1e-5)
    with pytest.raises(ValueError, match="0 to 198"):
        recording.record(model, [3, 199], tmp_path / "bad.safetensors")
    recording.record(recording.load(checkpoint, torch.bfloat16), prompt(5), tmp_path / "bfloat16.safetensors")
    assert load_file(tmp_path / "bfloat16.safetensors")["layers.1.attention"].dtype == torch.bfloat16


@pytest.mark.parametrize("model_type, activation, op", [("llama", "silu", "silu_mul"), ("mistral", "silu", "silu_mul"), ("qwen2", "silu", "silu_mul"),
                                                        ("qwen3", "silu", "silu_mul"), ("llama", "gelu_pytorch_tanh", "gelu_mul"),
                                                        ("llama", "gelu", "GELUActivation_mul")])
def test_a_recording_names_the_ops_by_what_the_modules_are(tmp_path, model_type, activation, op):
    config = AutoConfig.for_model(model_type, vocab_size=199, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                                  num_key_value_heads=2, head_dim=32, hidden_act=activation)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "tiny")
    model, ids = recording.load(tmp_path / "tiny"), prompt(4)  # as many tokens as heads
    recording.record(model, ids, tmp_path / "hf.safetensors")
    tensors = load_file(tmp_path / "hf.safetensors")
    norms = {"self_attn.q_norm", "self_attn.k_norm"} if model_type == "qwen3" else set()
    layer = {"input_layernorm", "self_attn.qkv_proj", "nlp_create_qkv_heads.q", "nlp_create_qkv_heads.k", "nlp_create_qkv_heads.v", *norms,
             "rotary_embedding.q", "rotary_embedding.k", "attention", "nlp_concat_heads", "self_attn.o_proj", "add", "post_attention_layernorm",
             "mlp.gate_up_proj", op, "mlp.down_proj", "add_2"}
    assert set(tensors) == {"input_ids", "embed_tokens", "select_rows", "norm", "lm_head", *(f"layers.{i}.{name}" for i in range(2) for name in layer)}
    attention, at = model.model.layers[1].self_attn, "layers.1.self_attn."
    with torch.no_grad():
        rows = torch.cat([module(tensors["layers.1.input_layernorm"]) for module in (attention.q_proj, attention.k_proj, attention.v_proj)], -1)
        torch.testing.assert_close(tensors[at + "qkv_proj"], rows)
        for i, token in enumerate(rows if norms else []):
            torch.testing.assert_close(tensors[at + "q_norm"][i], attention.q_norm(token[:128].view(4, 32)).flatten())
            torch.testing.assert_close(tensors[at + "k_norm"][i], attention.k_norm(token[128:192].view(2, 32)).flatten())


def test_a_recording_that_fails_leaves_no_file(sound, tmp_path, monkeypatch):
    model = recording.load(sound["gemma"][0])
    monkeypatch.setattr(recording, "HEADER_BYTES", 100)
    with pytest.raises(ValueError, match="100 are kept"):
        recording.record(model, prompt(5), tmp_path / "hf.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_precisions_are_compared_in_their_own_types(tessera, sound):
    checkpoint, hf, ids = sound["gemma"]
    other = ("--weights-b", "bfloat8_b", "--activations-b", "float32")
    facts = json.loads(tessera.run("compare", "-m", checkpoint, "--ids-file", ids, *other, "--json", "-").stdout)
    assert facts["a"]["precision"] == {"weights": "bfloat16", "activations": "bfloat16", "cache": "bfloat16"}
    assert facts["b"]["precision"] == {"weights": "bfloat8_b", "activations": "float32", "cache": "float32"}
    assert facts["threshold"] == 0.99
    by_name = {op["name"]: op for op in facts["ops"]}
    assert by_name["layers.0.add"]["types"] == ["bfloat16", "float32"]
    assert 0.9 < by_name["layers.3.add_2"]["pcc"] < 1
    rounded = json.loads(tessera.run("compare", "-m", checkpoint, "--against", hf, "--json", "-").stdout)
    assert {op["name"]: op for op in rounded["ops"]}["mul"]["max_ulps"] <= 1.5  # the factor and the product are rounded


def package_command(*arguments, **environment):
    """The package's `tessera compare`."""
    return subprocess.run([sys.executable, "-m", "tessera", "compare", *arguments], capture_output=True, text=True, timeout=300, env={**os.environ, **environment})


def test_one_command_runs_both_sides(sound, tmp_path):
    checkpoint, _, ids = sound["phi"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = package_command("--hf", "-m", checkpoint, "--ids-file", ids, *FLOAT32, "--html", tmp_path / "page.html", "--json", tmp_path / "facts.json",
                           TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert "No op is below PCC 0.99999999" in done.stdout and done.stderr == ""
    assert_every_op_agrees(json.loads((tmp_path / "facts.json").read_text()))
    assert list(temporary.iterdir()) == [] and "No op is below" in (tmp_path / "page.html").read_text()


def test_a_page_is_there_whole_or_not_at_all(sound, tmp_path):
    checkpoint, hf, _ = sound["phi"]
    for arguments, code, said in [(("--html", tmp_path / "no" / "such.html", "--against", hf), 3, "such.html"),
                                  (("--html", tmp_path / "page.html", "--against", tmp_path / "none.safetensors"), 3, "none.safetensors"),
                                  (("--html", tmp_path / "page.html", "--against", hf, "--json", "-"), 2, "--json FILE")]:
        done = package_command("-m", checkpoint, *arguments)
        assert done.returncode == code and said in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_both_sides_are_of_the_revision(sound, tmp_path):
    checkpoint, _, ids = sound["phi"]
    for commit in "0123", "4567":
        (tmp_path / "models--a--b/snapshots").mkdir(parents=True, exist_ok=True)
        (tmp_path / "models--a--b/snapshots" / commit).symlink_to(checkpoint)
    flags = ("--hf", "-m", "a/b", "--ids-file", ids, *FLOAT32, "--json", "-")
    done = package_command(*flags, "--revision", "4567", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 0 and json.loads(done.stdout)["ops"], done.stderr
    done = package_command(*flags, "--revision", "89ab", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 3 and "a/b: revision 89ab is not in the hub cache" in done.stderr


def test_hugging_face_reads_a_prompt_as_the_command_does(tmp_path, monkeypatch):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    with open(tmp_path / "text", "rb") as given:
        monkeypatch.setattr("sys.stdin", given)
        assert hf_side.read("-") == hf_side.read(str(tmp_path / "text")) == "one\r\ntwo"


def test_what_hugging_face_cannot_run_is_one_line(sound, tmp_path, capsys):
    checkpoint, _, _ = sound["phi"]
    (tmp_path / "ids.json").write_text("[5, 100000]")
    for arguments, code, said in [(("-m", checkpoint, "--ids-file", tmp_path / "ids.json"), 2, "0 to 210"),
                                  (("-m", tmp_path / "none", "-p", "a"), 3, "none"),
                                  (("-m", checkpoint, "--ids-file", tmp_path / "none.json"), 3, "none.json")]:
        assert hf_side.compare(["--hf", *map(str, arguments)], run=None) == code
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tessera: ")]
        assert len(told) == 1 and said in told[0]


def test_flags_are_checked(tessera, sound, tmp_path):
    checkpoint, hf, ids = sound["gemma"]
    for arguments, code, said in [
        (("--ids-file", ids), 2, "give one other side"),
        (("--ids-file", ids, "--against", hf), 2, "has its own prompt"),
        (("--model-b", checkpoint), 2, "give a prompt"),
        (("--against", hf, "--weights-b", "bfloat16"), 2, "give one other side"),
        (("--ids-file", ids, "--hf"), 2, "the Python package"),
        (("--ids-file", ids, "--hf-type", "float32"), 2, "--hf"),
        (("--ids-file", ids, "--device-b", "n150"), 2, "n150"),
        (("--against", checkpoint / "model.safetensors"), 3, "no recording"),
        (("--against", sound["phi"][1]), 2, "not the same model"),
        (("--against", hf, "-c", "50"), 2, "100 tokens"),
        (("--against", hf, "--threshold", "2"), 2, "--threshold"),
        (("--against", hf, "--html", tmp_path / "page.html"), 2, "the Python package"),
    ]:
        assert said in tessera.run("compare", "-m", checkpoint, *arguments, expect=code).stderr


class Page(HTMLParser):
    """The texts of a page, its elements' names, and that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.names, self.texts, self.loads, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.loads += [value for name, value in attributes
                       if name in ("src", "srcset", "data", "action") or (name == "href" and not value.startswith("#"))]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def page(sound, tmp_path_factory):
    """A page of the window off by one, whose checkpoint has a name that HTML must not take for its own, and the same facts as JSON."""
    folder = tmp_path_factory.mktemp("page")
    faulty = folder / "a<b>&'\"<script>"
    shutil.copytree(sound["gemma"][0], faulty)
    FAULTS["the window one too large"][1](faulty)
    outputs = ("--html", folder / "page.html", "--json", folder / "facts.json")
    done = package_command("-m", faulty, *FLOAT32, "--against", sound["gemma"][1], *outputs)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [faulty.name, "facts.json", "page.html"]
    return folder / "page.html", json.loads((folder / "facts.json").read_text())


def assert_shows(text, facts):
    shown = Page(text)
    assert shown.open in ([], ["html"]) and shown.loads == [] and not re.search(r"url\(|@import|https?:", text)
    assert "script" not in shown.names and facts["a"]["model"] in "".join(shown.texts)
    words = [word.strip() for word in shown.texts]
    assert shown.names.count("svg") == 4
    assert any(re.fullmatch(r"First op below PCC 0\.99999999: layers\.0\.attention, PCC 0\.\d+, first at token 4", word) for word in words)
    for op in facts["ops"]:
        at = words.index(op["name"], words.index("All numbers"))
        pcc = words[at + 2]
        assert 1 - eval(pcc) == pytest.approx(1 - op["pcc"], rel=0.1, abs=1e-7), op["name"]
        assert float(words[at + 6]) == pytest.approx(op["relative_error"], rel=1e-2)
    assert shown.names.count("tr") == len(facts["ops"]) + 1
    points = shown.names.count("circle")
    assert points == 2 * len(facts["ops"]) + TOKENS


def test_the_page_holds_all_numbers_and_loads_nothing(page):
    path, facts = page
    assert_shows(path.read_text(), facts)


@pytest.mark.slow
def test_the_page_opens_in_a_browser(page):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium here: scripts/setup check installs it on Debian")
    path, facts = page
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={path.parent / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_shows(done.stdout, facts)


@pytest.mark.slow
def test_a_real_model_s_window_one_too_large_is_named_at_its_first_token(tessera, gemma3_270m, long_text, tmp_path, measured):
    ids = prompt_ids(gemma3_270m, long_text)[:540]
    recording.record(recording.load(gemma3_270m), ids, tmp_path / "hf.safetensors")
    facts = compare(tessera, gemma3_270m, "--against", tmp_path / "hf.safetensors")
    assert_every_op_agrees(facts, len(ids))
    measured(f"compare, Gemma 3 270M: {len(facts['ops'])} ops of {len(ids)} tokens, relative error to Hugging Face at most "
             f"{max(op['relative_error'] for op in facts['ops']):.1e}")
    faulty = tmp_path / "faulty"
    shutil.copytree(gemma3_270m, faulty, symlinks=True, ignore=shutil.ignore_patterns("*.safetensors"))
    (faulty / "model.safetensors").symlink_to(gemma3_270m / "model.safetensors")
    with_config(lambda config: config.update(sliding_window=513))(faulty)
    facts = compare(tessera, faulty, "--against", tmp_path / "hf.safetensors")
    assert facts["first_below"] == "layers.0.attention"
    assert {op["name"]: op for op in facts["ops"]}["layers.0.attention"]["first_token_below"] == 512


def test_card_mode_is_compared_with_the_cpu_s_own_arithmetic(tessera, sound):
    checkpoint, _, ids = sound["gemma"]
    done = tessera.run("compare", "-m", checkpoint, "--weights", "bfloat16", "--twin", "card", "--device-b", "cpu", "--ids-file", ids, "--json", "-")
    told = json.loads(done.stdout)
    errors = {op["name"]: op["relative_error"] for op in told["ops"]}
    assert (told["a"]["twin"], told["b"]["twin"]) == ("card", "")
    assert errors["embed_tokens"] == 0
    assert all(1e-4 < errors[f"layers.{layer}.input_layernorm"] < 0.02 for layer in range(2))
