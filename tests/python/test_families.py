"""One small checkpoint of each family in all that is not parity of logits: generate()'s modes, weights in memory, eval, and its precisions."""
import dataclasses
import json

import hf_precisions
import numpy as np
import pytest
from bringups import FLOAT32, load_hf
from parity import random_ids
from row_measures import divergences, log_softmax
from tessera_package import need_package
from tiny_checkpoints import SMALL, TRAITS, enliven, from_config, make, save, stored_tensors

tessera_package = need_package()
torch = pytest.importorskip("torch")
from test_generate import MODES  # noqa: E402

from tessera import bringup, evaluation  # noqa: E402

FAMILIES = {name.removeprefix("small-"): SMALL[name] for name in (
    "small-arcee", "small-gemma2", "small-gemma3", "small-granite", "small-llama", "small-ministral3", "small-mistral", "small-olmo2", "small-olmo3",
    "small-olmoe", "small-phi3", "small-qwen2", "small-qwen3", "small-qwen3-moe", "small-smollm3")} | {"ministral": TRAITS["ministral-layer-types"]}
SHARP = {  # vocabularies of whole blocks, heads of their own, softcaps that a sharpened head does not fill
    name: row._replace(config={**row.config, "vocab_size": 304, "tie_word_embeddings": False, "intermediate_size": 160, "final_logit_softcapping": 30.0})
    for name, row in FAMILIES.items()}
SHARPER = 2  # times the head's weights
SEQUENCES, LENGTH = 8, 256  # of rows whose divergence is averaged
RATIO = 1.2  # of mean KL


@dataclasses.dataclass
class Family:
    name: str
    folder: object
    hf: object

    def ours(self, **precision):
        return tessera_package.from_pretrained(self.folder, max_seq_len=512, **precision)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request, tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("families") / request.param, FAMILIES[request.param])
    return Family(request.param, folder, load_hf(folder))


@pytest.fixture(scope="module")
def ours(family):
    return family.ours(**FLOAT32)


def prompts_of(mode):
    """As many rows as the mode's texts, of as different lengths, with a pattern that a lookup finds."""
    texts, options = MODES[mode]
    rows = [random_ids(5, 190) * 2 + random_ids(7, 190)] if isinstance(texts, str) else [random_ids(4, 190), random_ids(11, 190)]
    longest = max(map(len, rows))
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in rows]), "attention_mask": mask}, options


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "stop strings"])  # these checkpoints have no tokenizer
def test_generate_in_its_modes_gives_transformers_ids(family, ours, mode):
    inputs, options = prompts_of(mode)
    made = []
    for model in family.hf, ours:
        torch.manual_seed(0)
        out = model.generate(**inputs, **({"do_sample": False, "max_new_tokens": 8, "eos_token_id": 2, "pad_token_id": 0} | options))
        made.append(out if torch.is_tensor(out) else out.sequences)
        del out  # which may hold the cache
    assert made[1].tolist() == made[0].tolist()
    assert ours.engine.cache.sequences == 0


def test_a_module_s_memory_gives_what_its_checkpoint_gives(family, ours):
    ids = torch.tensor([random_ids(40, 190)])
    with torch.no_grad():
        assert torch.equal(bringup.Bringup(None, None, None).build_model(family.hf, "cpu", 64, **FLOAT32)(input_ids=ids).logits, ours(input_ids=ids).logits)


def test_a_text_s_reference_is_hugging_faces_and_eval_agrees_with_it(tessera, family, tmp_path):
    ids = random_ids(120, 190)
    with torch.no_grad():
        logits = family.hf(input_ids=torch.tensor([ids[:-1]])).logits[0]
    torch.testing.assert_close(torch.cat(list(evaluation.logits_of_text(family.hf, ids[:-1]))), logits, atol=1e-5, rtol=0)
    reference = evaluation.reference_of_text(family.hf, ids)
    tessera_package.write_reference(str(tmp_path / "reference.json"), reference)
    facts = json.loads(tessera.run("eval", "-m", family.folder, "--reference", tmp_path / "reference.json", "--json", "-", "--weights", "float32",
                                   "--activations", "float32").stdout)
    assert facts["total"] == 119 and facts["top1"] == 1 and facts["kl_mean"] < 1e-6


@torch.no_grad()
def log_probabilities(model, ids):
    return log_softmax(model(input_ids=ids).logits.float().numpy())


@torch.no_grad()
def round_weights(model):
    """Of linears and of experts to bfloat8_b. Routers and untied embeddings stay as they are."""
    experts = [weight for name, weight in model.named_parameters() if ".experts." in name]
    for weight in [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)] + [one for all in experts for one in all]:
        weight.copy_(hf_precisions.block_rounded(weight.float()))


@pytest.mark.parametrize("name", sorted(SHARP))
def test_a_precision_is_as_near_to_float32_as_hugging_faces_own_bfloat16(name, tmp_path, measured):
    row = SHARP[name]
    model = enliven(from_config(tmp_path / name, row.config, "AutoModelForCausalLM"), row.key_bias)
    model.lm_head.weight.data *= SHARPER
    save(stored_tensors(model), tmp_path / name / "model.safetensors")
    ids = torch.tensor([random_ids(LENGTH + i, 304)[:LENGTH] for i in range(SEQUENCES)])
    for weights in "bfloat16", "bfloat8_b":
        whole, half = (hf_precisions.load(tmp_path / name, dtype) for dtype in (torch.float32, torch.bfloat16))
        if weights == "bfloat8_b":
            round_weights(whole)
            round_weights(half)  # the values are bfloat16's too
        p = log_probabilities(whole, ids)
        ours = tessera_package.from_pretrained(tmp_path / name, max_seq_len=LENGTH, weights=weights)
        kl, theirs = (float(divergences(p, log_probabilities(other, ids)).mean()) for other in (ours, half))
        measured(f"{name}, {weights}, {p.shape[0] * p.shape[1]} rows, best token's mean probability {np.exp(p).max(axis=-1).mean():.2f}: mean KL {kl:.6f}, "
                 f"Hugging Face's bfloat16 {theirs:.6f}, ratio {kl / theirs:.2f}")
        assert kl <= RATIO * theirs
