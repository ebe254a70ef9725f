"""How far logits are from others."""
from typing import Any

import numpy as np
from numpy.typing import NDArray


def spread(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def off(logits: NDArray[Any], exact: NDArray[Any]) -> float:
    """How far logits are from those of float32, as a share of their size."""
    return spread(logits - exact) / spread(exact)
