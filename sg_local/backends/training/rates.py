"""The learning rate of a model by its width: what a 7B bears is too little for a small one.

The rule and its exponents are those of Thinking Machines' training service for LoRA at alpha / rank like ours (its
hyperparameter utilities, after "LoRA Without Regret", 2025): proportional to (1 / width) ** 0.781 for Llama's kin, and
nearly constant for Qwen's. Theirs gives 2.9e-4 at a width of 4096, where our rate stays what it is set to.
"""

from __future__ import annotations

WIDEST = 4096
"""The width of a 7B, above which a rate stays as it is."""
EXPONENT = 0.781
EXPONENT_OF_QWEN = 0.0775


def rate_for(lr: float, width: int, architecture: str) -> float:
    """The rate for a model of this width, from the one for a 7B; never below it. Three digits."""
    exponent = EXPONENT_OF_QWEN if architecture.startswith("qwen") else EXPONENT
    return float(f"{lr * max(1.0, WIDEST / width) ** exponent:.3g}")
