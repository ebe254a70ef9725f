"""A checkpoint that says what a test writes down: the prompt's last letter chooses the answer, and each of its tokens the next one.

It is a Llama without a thought of its own: one layer of zeros, embeddings that are one-hot, and a head that has a number for "next after this"
alone. So an answer's pieces are tokens, and no piece may stand in two places.
"""
import json

import hostile_files
import numpy as np
from safetensors.numpy import save_file

TEMPLATE = ("{% for m in messages %}{{ '<start_of_turn>' + m.role + ':' + m.content + '<end_of_turn>' }}{% endfor %}"
            "{{ '<start_of_turn>assistant:' + messages[-1].content[-1] }}")
END, UNKNOWN = "<end_of_turn>", "<unk>"
LOGIT = 40.0  # of the next token, where all others have 0


def make(folder, answers, template=TEMPLATE, context=1 << 16):
    """`answers`: of a prompt's last letter, the pieces of the answer; where they end with ..., they begin again."""
    tokenizer = hostile_files.tokenizer_json()
    vocabulary = tokenizer["model"]["vocab"]
    following = {}
    for letter, pieces in answers.items():
        endless = pieces[-1] is ...
        tokens = [piece.replace(" ", "▁") for piece in pieces if piece is not ...]
        for token in tokens:
            assert token not in vocabulary, f"{token} stands in two places"
            vocabulary[token] = len(vocabulary)
        following |= dict(zip([letter, *tokens], [*tokens, tokens[0] if endless else END]))
    tokens, heads = len(vocabulary), -(-len(vocabulary) // 64)
    width = 64 * heads
    head = np.zeros((tokens, width), np.float32)
    for token, id in vocabulary.items():
        head[vocabulary[following.get(token, END)], id] = LOGIT / width**0.5
    zeros = {"self_attn.q_proj": (width, width), "self_attn.k_proj": (64, width), "self_attn.v_proj": (64, width), "self_attn.o_proj": (width, width),
             "mlp.gate_proj": (64, width), "mlp.up_proj": (64, width), "mlp.down_proj": (width, 64)}
    tensors = {f"model.layers.0.{name}.weight": np.zeros(shape, np.float32) for name, shape in zeros.items()}
    for name in "layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm":
        tensors[f"model.{name}.weight"] = np.ones(width, np.float32)
    folder.mkdir()
    save_file({**tensors, "model.embed_tokens.weight": np.eye(tokens, width, dtype=np.float32), "lm_head.weight": head}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": tokens, "hidden_size": width, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": heads, "num_key_value_heads": 1, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-9,
        "rope_theta": 10000.0, "max_position_embeddings": context, "tie_word_embeddings": False, "eos_token_id": vocabulary[END]}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(template)
    return folder
