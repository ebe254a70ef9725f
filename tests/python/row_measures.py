"""What rows of logits are judged by, in float64: what src/evaluate and tessera.evaluation are compared with."""
import numpy as np


def log_softmax(rows):
    rows = np.asarray(rows, np.float64)
    rows = rows - rows.max(axis=-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))


def losses_of(log_probs, targets):
    return -log_probs[np.arange(len(targets)), targets]


def divergences(p, q):
    """KL(p || q) of each row of log-probabilities."""
    return (np.exp(p) * (p - q)).sum(axis=-1)


def divergence_of_kept(ids, log_probs, q):
    """KL of one row when of p only `ids` are known, the others being one: q is a row of log-probabilities."""
    p, rest_of_q = np.exp(log_probs), 1 - np.exp(q[ids]).sum()
    return (p * (log_probs - q[ids])).sum() + (1 - p.sum()) * np.log((1 - p.sum()) / rest_of_q)


def best(rows, count):
    """The ids of the largest values of each row, the largest first, equal ones by id."""
    return np.argsort(-np.asarray(rows), axis=-1, kind="stable")[..., :count]
