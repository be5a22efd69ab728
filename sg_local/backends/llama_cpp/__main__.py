"""Opens a file that may end its process: the child of `trial`, run as `python -m sg_local.backends.llama_cpp TRIAL`.

It does what every job does first: loads, tokenises, scores a text and writes two tokens.
"""

from __future__ import annotations

import math
import resource
import sys

import llama_cpp as lib

from sg_local.backends import EngineSettings
from sg_local.backends.llama_cpp import opened_for_trial
from sg_local.backends.llama_cpp.model import load_vocabulary
from sg_local.backends.llama_cpp.trial import NO_NUMBERS, PASSED, REFUSED, Trial
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.backends.machine import physical_cores
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment, SgError

ASKED = (Segment("1 or \u00e9\u672c?", False),)


def main(text: str) -> int:
    """The exit code; a file that llama.cpp does not survive ends the process before."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no copy of the memory on the disk
    trial = Trial.from_json(text)
    try:
        if trial.vocab_only:
            return try_vocabulary(trial)
        return try_whole(trial)
    except SgError as error:
        print(error.message, file=sys.stderr)
        return REFUSED


def try_vocabulary(trial: Trial) -> int:
    """Tokenise a text."""
    model = load_vocabulary(trial.model)
    Vocab(model).tokenize(ASKED)
    lib.llama_model_free(model)
    return PASSED


def try_whole(trial: Trial) -> int:
    """Score a text and write."""
    # llama.cpp waits for its threads by spinning: beside a busy process, fewer threads than cores end ten times sooner.
    n_threads = max(1, physical_cores() // 2)
    settings = EngineSettings(128, 1, n_threads, gpu_layers=trial.gpu_layers, cache=trial.cache)
    generator = opened_for_trial(trial.model, settings, is_second=trial.adapter is not None)
    try:
        if trial.adapter is not None:
            generator.use_adapter(trial.adapter)
        score = next(iter(generator.score([ScoredPrompt("trial", ASKED, ("2",))])))
        list(generator.generate([Prompt("trial", ASKED, Sampling(max_tokens=2))]))
        return NO_NUMBERS if math.isnan(score.logprobs[0]) else PASSED
    finally:
        generator.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
