"""What the tests have a device do: prompts of any length, decodes of several conversations, drafts, a fork and a prompt that goes on."""
import numpy as np


class Talk:
    """A model on a device, with its generator, and a cache of its own or another Talk's."""

    def __init__(self, core, device, model, max_tokens=2048, max_sequences=8, cache_of=None, **precision):
        self.loaded = core.make_model(*model, device, **precision)
        self.cache = cache_of.cache if cache_of else core.Cache(device, self.loaded.model.spec.cache, dtype=self.loaded.options.cache,
                                                                max_tokens=max_tokens, max_sequences=max_sequences)
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
