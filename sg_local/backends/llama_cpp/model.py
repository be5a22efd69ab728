"""Opens a GGUF for writing and scoring: refuses what cannot work before llama.cpp sees it, and says what it is.

A failed assertion in ggml ends the process, so the header, every tensor's place in the file, and the kind of model
are checked first (engines that embed, encode or keep a recurrent state have no use here).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import llama_cpp as lib

from sg_local.backends import machine
from sg_local.backends.footprint import PROGRAM_BYTES
from sg_local.backends.llama_cpp.library import load_model, log
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.gguf import GgufFile
from sg_local.records import ModelInfo, SgError


@dataclass(frozen=True)
class Facts:
    """What the header says that llama.cpp need not be asked for."""

    name: str
    architecture: str


def check_file(path: Path) -> Facts:
    """The header's facts. Raises SgError for a missing, damaged or unfit file."""
    if not path.exists():
        raise SgError(f"There is no model at {path}.", "`models ls` shows the models on this machine.")
    with GgufFile(path) as file:
        if file.value("general.type", "model") != "model":
            kind = file.value("general.type")
            raise SgError(f"{path} is a GGUF {kind}, not a model.", "Give the base model's GGUF as the model.")
        if file.value("split.count", 1) > 1:
            raise SgError(f"{path} is one part of a split model.", "Join the parts with llama-gguf-split --merge.")
        if not file.tensors or "tokenizer.ggml.model" not in file.fields:
            raise SgError(f"{path} holds no weights or no vocabulary.", "Give a whole model's GGUF.")
        return Facts(
            name=str(file.value("general.name") or path.stem),
            architecture=str(file.value("general.architecture", "")),
        )


def load(path: Path, gpu_layers: int, *, copies: bool = True) -> object:
    """A loaded llama_model that can write text. Raises SgError for one that cannot.

    Without `copies` the weights stay as they lie in the mapped file: slower, and no memory of its own.
    """
    model = load_model(path, gpu_layers=gpu_layers, copies=copies)
    if not model:
        if machine.tells_of_memory(log().cause()):
            machine.refuse_to_open(path, path.stat().st_size + PROGRAM_BYTES)
        raise SgError(
            f"llama.cpp cannot load {path}: {log().cause()}.", "Is the file whole, and its architecture known?"
        )
    reason = _unfit(model)
    if reason:
        lib.llama_model_free(model)
        raise SgError(f"{path} {reason}.", "Give a decoder-only language model, such as a llama, qwen or gemma.")
    return model


def load_vocabulary(path: Path) -> object:
    """A llama_model without weights: its tokenizer. Raises SgError where llama.cpp cannot read it."""
    model = load_model(path, vocab_only=True)
    if not model:
        raise SgError(f"llama.cpp cannot read the vocabulary of {path}: {log().cause()}.", "Is the file whole?")
    return model


def describe(path: Path, facts: Facts, vocab: Vocab, model: object, digest: str) -> ModelInfo:
    """The model as records know it."""
    template = lib.llama_model_chat_template(model, None)
    return ModelInfo(
        name=facts.name,
        path=str(path),
        digest=digest,
        size_bytes=path.stat().st_size,
        architecture=facts.architecture,
        n_ctx_train=lib.llama_model_n_ctx_train(model),
        chat_template=None if template is None else template.decode("utf-8", "replace"),
        bos=vocab.text_of(vocab.bos),
        eos=vocab.text_of(vocab.eos),
        add_bos=vocab.add_bos,
        ends=tuple(sorted(vocab.text_of(id) for id in vocab.ends if id >= 0)),
    )


def _unfit(model: object) -> str:
    if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
        return "is an encoder: it embeds text and cannot write any"
    if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
        return "keeps a recurrent state, which sequences cannot share"
    if lib.llama_model_is_diffusion(model):
        return "is a diffusion model, which does not write from left to right"
    if lib.llama_vocab_type(lib.llama_model_get_vocab(model)) == lib.LLAMA_VOCAB_TYPE_NONE:
        return "has no vocabulary"
    return ""
