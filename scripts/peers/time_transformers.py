#!/usr/bin/env python3
"""Times Hugging Face transformers in bfloat16: a prompt up to its last row of logits, or tokens one by one after `depth` cached ones."""
import timer
import torch
import transformers


@torch.inference_mode()
def main():
    a = timer.arguments(__doc__)
    torch.set_num_threads(a.threads)
    load_seconds, model = timer.seconds(lambda: transformers.AutoModelForCausalLM.from_pretrained(a.folder, dtype=torch.bfloat16))
    vocabulary = model.config.get_text_config().vocab_size
    tokens = lambda count: torch.tensor(timer.drawn(vocabulary, count, a.parallel))
    forward = lambda ids, cache: model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    forward(tokens(timer.WARM_UP), None)
    if a.prompt:
        ids = tokens(a.prompt)
        measured, _ = timer.seconds(lambda: forward(ids, None))
    else:
        made = forward(tokens(max(1, a.depth)), None)

        def generate():
            nonlocal made
            for _ in range(a.generated):
                made = forward(made.logits[:, -1].argmax(-1, keepdim=True), made.past_key_values)

        measured, _ = timer.seconds(generate)
    timer.report(measured, load_seconds)


if __name__ == "__main__":
    main()
