"""What the tests have a device do: prompts of any length, decodes of several conversations, drafts, a fork and a prompt that goes on."""
import numpy as np


class Talk:
    """A model on a device, with its generator, and a cache of its own or another Talk's."""

    def __init__(self, core, device, model, max_tokens=2048, max_sequences=8, cache_of=None, **precision):
        self.loaded = core.make_model(*model, device, **precision)
        self.cache = cache_of.cache if cache_of else core.Cache(device, self.loaded.model.spec.cache, dtype=self.loaded.options.cache,
                                                                max_tokens=max_tokens, max_sequences=max_sequences,
                                                                prefix_cache=False)  # the same tokens are computed each time
        self.generator = core.Generator(self.loaded.model, device, self.cache)
        self.random = np.random.default_rng(7)

    def say(self, *parts):
        """Each part is (sequence, new tokens, rows of logits wanted); all in one call."""
        for sequence, count, _ in parts:
            sequence.append(self.random.integers(0, self.loaded.model.spec.vocab_size, count, dtype=np.int32))
        return self.generator.forward([(sequence, wanted) for sequence, _, wanted in parts])


def whole_conversation(talk):
    """Logits of every kind of Batch that a generator makes, [rows, vocab]."""
    first, second, third = (talk.cache.create() for _ in range(3))
    rows = [talk.say((first, 300, 3)), talk.say((second, 20, 20))]
    rows.append(talk.say((first, 1, 1), (second, 1, 1), (third, 1, 1)))
    rows.append(talk.say((first, 250, 2)))  # goes on at 301, where no chunk may start
    rows.append(talk.say((second, 4, 4), (first, 1, 1)))  # four successive positions of one sequence
    rows.append(talk.say((second, 120, 1)))  # passes 128 tokens, where a test's LongRoPE changes its factors
    fork = talk.cache.fork(first)
    rows.append(talk.say((fork, 1, 1), (first, 1, 1)))
    return np.concatenate(rows)


def every_kind(talk, users):
    """Each kind of Batch once: chunks of each size and each number of wanted rows, decodes of 1 to `users` with and without logits, a page copied."""
    for rows in (128, 256, 512):
        for wanted in (0, 1, 2, 4, 8, 16, 32):
            talk.say((talk.cache.create(), rows, wanted))
    sequences = [talk.cache.create() for _ in range(users)]
    for count in (2**i for i in range(users.bit_length())):
        for wanted in (0, 1):
            talk.say(*[(sequence, 1, wanted) for sequence in sequences[:count]])
    fork = talk.cache.fork(sequences[0])
    talk.say((fork, 1, 1))


def mixed_turns(talk, turns, users, seed=11):
    """Rows of logits of conversations that come, go on, fork, go back and end."""
    random = np.random.default_rng(seed)
    sequences, rows = [], []
    for turn in range(turns):
        what = random.choice(["prompt", "decodes", "decodes", "decodes", "fork", "back", "end"])
        chosen = sequences[random.integers(len(sequences))] if sequences else None
        if what == "prompt" or chosen is None:
            if len(sequences) < users:
                sequences.append(talk.cache.create())
            count = int(random.integers(2, 400))
            rows.append(talk.say((sequences[-1], count, min(count, int(random.choice([0, 1, 3, 20]))))))
        elif what == "fork" and len(sequences) < users:
            sequences.append(talk.cache.fork(chosen))
        elif what == "back" and len(chosen) > 20:
            talk.cache.truncate(chosen, len(chosen) - int(random.integers(1, 20)))
        elif what == "end":
            sequences.remove(chosen)
        else:
            deciding = [sequences[i] for i in random.permutation(len(sequences))[: random.integers(1, len(sequences) + 1)]]
            rows += [talk.say(*[(sequence, 1, 1) for sequence in deciding]) for _ in range(3)]
    return np.concatenate(rows)
