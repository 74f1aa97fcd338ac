"""Memory that runs out: how that is recognized, and the budget that is halved when it happens.

Knows nothing of what the memory is for.
"""

from __future__ import annotations

import gc

__all__ = ["Budget", "is_out_of_memory"]


class Budget:
    """How many tokens may be worked on at once: a plan is made from `tokens`, and made again after `halve`.

    `halvings` above 0 says that this machine could not keep to the plan all validators share: in bfloat16
    the last digits may then differ from theirs.
    """

    def __init__(self, tokens: int) -> None:
        if tokens < 1:
            raise ValueError(f"the budget is {tokens} tokens; expected 1 or more")
        self.tokens = tokens
        self.halvings = 0

    def __repr__(self) -> str:
        return f"Budget(tokens={self.tokens}, halvings={self.halvings})"

    def halve(self, below: int | None = None) -> None:
        """Half the tokens from now on, or as often halved as brings them under `below`; returns unused memory.

        A budget far above what a failed plan used would be halved in vain: `below` says what it used.
        """
        while True:
            self.tokens = max(1, self.tokens // 2)
            self.halvings += 1
            if below is None or self.tokens < max(below, 2):
                break
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, of this machine or of its accelerator."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in ("allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED", "can't start new thread")
    )
