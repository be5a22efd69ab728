"""Opens one model file and lets it answer once: run as `python -m sg_local.export.loading`, request on stdin.

The request is JSON with engine, model, n_ctx, cache (a folder or null) and segments; the answer is JSON with the text.
A file that makes the engine abort takes this process down and no other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sg_local.backends import EngineSettings
from sg_local.backends.trying import answer_in_child
from sg_local.records import Prompt, Sampling, Segment, SgError

N_TOKENS = 16


def answer(request: dict[str, Any]) -> str:
    """The greedy answer of one model file. Raises SgError for a file that does not load."""
    cache = Path(request["cache"]) if request["cache"] is not None else None
    settings = EngineSettings(n_ctx=request["n_ctx"], n_parallel=1, fast_copy=False, cache=cache)
    segments = tuple(Segment(text, trusted) for text, trusted in request["segments"])
    prompt = Prompt("load", segments, Sampling(max_tokens=N_TOKENS))
    return answer_in_child(request["engine"], Path(request["model"]), settings, prompt)


def main() -> int:
    """Exit status 0 with the answer on stdout, 1 with a sentence on stderr."""
    try:
        print(json.dumps({"text": answer(json.load(sys.stdin))}))
    except SgError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
