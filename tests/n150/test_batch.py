"""tessera batch on the place-holder of the card: many requests side by side, of which prompts and decodes do not mix."""
import json

from test_real_models import folder_of, on_the_place_holder

STEM = "Once upon a time there was a small dragon who lived behind the seventh hill and did not like the rain at all. " * 8
PROMPTS = [STEM + "One day", "The capital of France is", STEM + "His mother", "2, 4, 6, 8,", "def add(a, b):", STEM + "One day"]
DECIDED = 0.1  # nats between the two most probable: more than the rounding of bfloat16 activations moves them


def answers(folder, tmp_path, name, *flags):
    lines = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions",
              "body": {"prompt": prompt, "max_tokens": 6, "temperature": 0, "logprobs": 2, "n": 2 if i == 1 else 1, "priority": i % 2}}
             for i, prompt in enumerate(PROMPTS)]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / f"{name}.jsonl"
    done = on_the_place_holder("batch", "-m", folder, "--device", "n150", "--weights", "bfloat16", "-c", 512, "-i", tmp_path / "requests.jsonl",
                               "-o", out, *flags)
    assert done.returncode == 0, done.stderr
    read = {line["custom_id"]: line["response"] for line in map(json.loads, out.read_text().splitlines())}
    assert all(response["status_code"] == 200 for response in read.values()), read
    return [choice["logprobs"] for i in range(len(PROMPTS)) for choice in read[str(i)]["body"]["choices"]], read


def test_requests_side_by_side_are_given_what_each_is_given_alone(core, tmp_path):
    folder = folder_of("phi3-smollm2")
    alone, _ = answers(folder, tmp_path, "alone", "--max-num-seqs", 1, "--no-prefix-cache")
    together, read = answers(folder, tmp_path, "together", "--max-num-seqs", 4)
    assert len(alone) == len(together) == len(PROMPTS) + 1
    compared = 0
    for lone, beside in zip(alone, together):
        for own, other, top in zip(lone["tokens"], beside["tokens"], lone["top_logprobs"]):
            first, second = sorted(top.values(), reverse=True)[:2]
            if own != other:
                assert first - second < DECIDED, (lone["tokens"], beside["tokens"])
                break
            compared += first - second >= DECIDED
    assert compared > 20  # decided choices that are the same
    assert sum(response["body"]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0 for response in read.values()) >= 2
