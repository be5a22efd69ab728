"""A model as its header tells it, before any engine opens it: what prompt forms need to know."""

from __future__ import annotations

from pathlib import Path

from sg_local.records import ModelInfo


def header_info(path: Path) -> ModelInfo:
    """The model without its digest and without the tokens that end an answer besides `eos`.

    Raises SgError for a file that is not one whole, readable model.
    """
    from sg_local.gguf import GgufFile, check_model  # loads NumPy

    found = check_model(path)
    with GgufFile(path) as file:
        tokens = file.value("tokenizer.ggml.tokens")

        def token(name: str) -> str:
            number = file.value(f"tokenizer.ggml.{name}_token_id", -1)
            return str(tokens[number]) if isinstance(number, int) and 0 <= number < len(tokens) else ""

        spm = file.value("tokenizer.ggml.model") == "llama"
        bos, eos, add_bos = token("bos"), token("eos"), bool(file.value("tokenizer.ggml.add_bos_token", spm))
    return ModelInfo(
        name=found.name,
        path=found.path,
        digest="",
        size_bytes=found.size_bytes,
        architecture=found.architecture,
        n_ctx_train=found.context,
        chat_template=found.chat_template,
        bos=bos,
        eos=eos,
        add_bos=add_bos,
    )
