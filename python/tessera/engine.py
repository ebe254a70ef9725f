"""Padded batches of conversations over the C++ generator. NumPy only."""
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera import _core


Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Logits = NDArray[np.float32]


class Rows:
    """The conversations of a padded batch, one a row. A row is the sequence of its tokens, without the pads. Rows that are equal so far
    share one Sequence, which is forked when they part. `mask` [rows, slots] is true for a token and false for a pad."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.sequences: list[_core.Sequence] = []
        self.mask: Mask = np.zeros((0, 0), bool)

    @property
    def slots(self) -> int:
        return int(self.mask.shape[1])

    def select(self, indices: list[int]) -> None:
        self.sequences = [self.sequences[index] for index in indices]
        self.mask = self.mask[indices]

    def crop(self, slots: int) -> None:
        """Forgets the slots from `slots` on."""
        cache = self.engine.cache
        with self.engine.lock:
            lengths = self.mask[:, :slots].sum(axis=1).tolist()
            parts = list(dict.fromkeys(zip(self.sequences, lengths)))
            last = dict(parts)  # the last of a Sequence's parts takes the Sequence itself
            cut = {(sequence, length): sequence if last[sequence] == length else cache.fork(sequence) for sequence, length in parts}
            for (_, length), part in cut.items():
                cache.truncate(part, length)
            self.sequences = [cut[part] for part in zip(self.sequences, lengths)]
            self.mask = self.mask[:, :slots]

    def fork(self) -> "Rows":
        copy = Rows(self.engine)
        with self.engine.lock:
            forks = {sequence: self.engine.cache.fork(sequence) for sequence in dict.fromkeys(self.sequences)}
            copy.sequences = [forks[sequence] for sequence in self.sequences]
            copy.mask = self.mask
        return copy


@dataclass
class Group:
    """Rows that have the same Sequence and get the same tokens: computed once."""
    sequence: _core.Sequence
    tokens: Ids
    known: int  # tokens that the Sequence has before these
    wanted: int = 0  # logits of so many of its last tokens
    first: int = 0  # their first row among all logits


class Engine:
    """A loaded model, the pool of its cache's pages, and the lock under which its conversations are used."""

    def __init__(self, loaded: _core.LoadedModel, device: _core.Device, max_seq_len: int) -> None:
        if max_seq_len < 1:
            raise ValueError(f"max_seq_len: {max_seq_len} is below 1")
        model = loaded.model
        self.loaded, self.device = loaded, device
        self.max_seq_len = max_seq_len
        self.context = min(max_seq_len, model.spec.max_position_embeddings)
        max_tokens, max_sequences = _core.largest_cache(device, model.spec.cache, loaded.options.cache, self.context)
        self.cache = _core.Cache(device, model.spec.cache, dtype=loaded.options.cache, max_tokens=max_tokens, max_sequences=max_sequences)
        self.generator = _core.Generator(model, device, self.cache)
        self.lock = threading.Lock()

    def forward(self, rows: Rows, ids: Ids, mask: Mask, keep: int) -> Logits:
        """Appends to `rows` the tokens `ids` [rows, slots] where `mask` is true, and gives the logits of the last `keep` slots: float32
        [rows, keep, vocab]. A pad before its row's first token has zeros; one behind its row's last token has that token's logits. When it
        raises, `rows` is as it was."""
        check_runs(rows, mask)
        with self.lock:
            sequences = rows.sequences or [self.cache.create()] * len(ids)
            groups, group_of_row = self._group(sequences, ids, mask, keep)
            logits = self._run(groups)
            rows.sequences = [group.sequence for group in group_of_row]
            rows.mask = np.concatenate([rows.mask.reshape(len(ids), -1), mask], axis=1)
        return spread(logits, group_of_row, mask[:, mask.shape[1] - keep:])

    def _group(self, sequences: list[_core.Sequence], ids: Ids, mask: Mask, keep: int) -> tuple[list[Group], list[Group]]:
        groups: dict[tuple[_core.Sequence, bytes], Group] = {}
        group_of_row = []
        for row, sequence in enumerate(sequences):
            tokens = ids[row, mask[row]]
            known = len(sequence)
            self._check_length(row, known + len(tokens))
            group = groups.setdefault((sequence, tokens.tobytes()), Group(sequence, tokens, known))
            wanted = int(mask[row, mask.shape[1] - keep:].sum())
            group.wanted = max(group.wanted, wanted, int(keep > 0 and known + len(tokens) > 0))
            group_of_row.append(group)
        taken: set[_core.Sequence] = set()
        for group in groups.values():  # before any Sequence grows
            if group.sequence in taken:
                group.sequence = self.cache.fork(group.sequence)
            taken.add(group.sequence)
        return list(groups.values()), group_of_row

    def _check_length(self, row: int, length: int) -> None:
        if length > self.context:
            limit = f"max_seq_len is {self.max_seq_len}" if self.context == self.max_seq_len else f"the model's context ends at {self.context}"
            raise ValueError(f"row {row} would have {length} tokens; {limit}")

    def _run(self, groups: list[Group]) -> Logits:
        grown: list[Group] = []
        try:
            requests = []
            first = 0
            for group in groups:
                grown.append(group)
                group.sequence.append(group.tokens)
                group.first = first
                first += group.wanted
                if len(group.sequence):
                    requests.append((group.sequence, group.wanted))
            return self.generator.forward(requests)
        except BaseException:
            for group in grown:
                self.cache.truncate(group.sequence, group.known)
            raise


def check_runs(rows: Rows, mask: Mask) -> None:
    """Refuses pads between tokens. Pads behind a row's tokens may be followed by tokens in a later call: a right-padded prompt goes on."""
    begins = (mask[:, 1:] & ~mask[:, :-1]).sum(axis=1) + mask[:, :1].sum(axis=1)
    for row in np.flatnonzero(begins > 1):
        raise ValueError(f"attention_mask: row {row} has a hole, zeros between its ones; only padding on the left or right is supported "
                         "(without an attention_mask, generate() takes every pad token id for padding)")
    for row in np.flatnonzero(~mask[:, :1].any(axis=1) & mask.any(axis=1)) if rows.slots else ():
        if rows.mask[row].any():
            raise ValueError(f"attention_mask: row {row} has a hole, zeros between the tokens in its cache and the new ones")


def spread(logits: Logits, group_of_row: list[Group], window: Mask) -> Logits:
    """The logits of each slot of `window` [rows, keep], the mask of the last slots, from those that the groups gave."""
    tokens = window.sum(axis=1, keepdims=True)
    ends = np.array([[group.first + group.wanted] for group in group_of_row])
    known = np.array([[group.known + len(group.tokens)] for group in group_of_row])
    number = np.cumsum(window, axis=1)  # of a slot's token, or of the last token before a pad, counted in the window
    index = np.where((number > 0) | ((tokens == 0) & (known > 0)), ends - tokens + number - 1, -1)
    if np.array_equal(index.ravel(), np.arange(len(logits))):
        return logits.reshape(*index.shape, -1)
    computed = index >= 0
    if computed.all():
        return logits[index]
    out = np.zeros((*index.shape, logits.shape[1]), np.float32)
    out[computed] = logits[index[computed]]
    return out
