"""What Python's clients make of an export: python clients_python.py NAME CASE.json, one JSON object on stdout.

Each runs in a process of its own, for clients.py: no two engines share one, and an abort ends only one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serve import SG_LOCAL, Server, free_port, started

Case = dict[str, Any]
Said = dict[str, Any]


def main() -> None:
    client = CLIENTS[sys.argv[1]]
    case = json.loads(Path(sys.argv[2]).read_text())
    with contextlib.redirect_stdout(sys.stderr):
        said = client[1](case)
    print(json.dumps({"version": importlib.metadata.version(client[0]), **said}))


def messages(text: str) -> list[dict[str, str]]:
    """A bare user message."""
    return [{"role": "user", "content": text}]


def folder(case: Case, name: str) -> str:
    """An exported folder."""
    return str(Path(case["out"]) / name)


def metadata(case: Case) -> Said:
    """gguf's own reader."""
    from gguf import GGUFReader

    fields = GGUFReader(case["fused"]).fields
    return {"metadata": {key: fields[key].contents() if key in fields else None for key in case["metadata"]}}


def llama_cpp_python(case: Case) -> Said:
    """create_chat_completion, with what its own handler gives to the model."""
    import llama_cpp

    model = llama_cpp.Llama(case["fused"], n_ctx=case["n_ctx"], verbose=False)
    ids: list[list[int]] = []
    complete = model.create_completion

    def noted(prompt: list[int], **how: Any) -> Any:
        ids.append(list(prompt))
        return complete(prompt=prompt, **how)

    model.create_completion = noted
    answers = []
    for text in case["inputs"]:
        done: Any = model.create_chat_completion(messages(text), temperature=0, max_tokens=case["n_new"])
        answers.append(done["choices"][0]["message"]["content"])
    return {"ids": ids, "answers": answers, "note": f"says {described(model)}"}


def described(model: Any) -> str:
    """llama.cpp's own words for a model."""
    import ctypes

    import llama_cpp

    said = ctypes.create_string_buffer(200)
    llama_cpp.llama_model_desc(model.model, said, 200)
    return said.value.decode()


def llama_cpp_server(case: Case) -> Said:
    command = ["-m", "llama_cpp.server", "--model", case["fused"], "--n_ctx", str(case["n_ctx"]), "--verbose", "false"]
    return served(case, [sys.executable, *command, "--port"])


def mlx_lm_server(case: Case) -> Said:
    return served(
        case,
        [sys.executable, "-m", "mlx_lm", "server", "--model", folder(case, "mlx"), "--port"],
        model=folder(case, "mlx"),
    )


def ours_served(case: Case) -> Said:
    """`sg-local serve RUN`: base and adapter."""
    command = [*SG_LOCAL, "serve", case["run"], "--runs", case["runs"], "--quiet", "--port"]
    return served(case, command)


def served(case: Case, command: Sequence[str], **more: Any) -> Said:
    """A server that speaks OpenAI's chat; it tells how long the prompts were, not their tokens."""
    port, lengths, answers = free_port(), [], []
    with started(command[2], [*command, str(port)], port) as server:
        for text in case["inputs"]:
            answer = asked(server, {"messages": messages(text), "temperature": 0, "max_tokens": case["n_new"], **more})
            lengths.append(answer["usage"]["prompt_tokens"])
            answers.append(answer["choices"][0]["message"]["content"])
    return {"lengths": lengths, "answers": answers}


def asked(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    status, answer = server.ask("/v1/chat/completions", body)
    if status != 200:
        raise SystemExit(f"{server.name} answered {status}: {answer}")
    return answer


def predicted(case: Case) -> Said:
    """`sg-local predict`, by its face."""
    import sg_local as sg

    with sg.load(case["run"], runs=case["runs"]) as job:
        return {"answers": [str(one) for one in job.predict(case["inputs"])], "note": "labels are chosen, not written"}


def transformers(case: Case) -> Said:
    """The --hf folder: its chat template, then generate."""
    import torch
    from transformers import AutoModelForCausalLM

    return generated(case, AutoModelForCausalLM.from_pretrained(folder(case, "hf"), dtype=torch.float32))


def peft(case: Case) -> Said:
    """The adapter in peft's form on the base, which transformers reads from its GGUF; prompts by the --hf template."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = Path(case["base"])
    model = AutoModelForCausalLM.from_pretrained(base.parent, gguf_file=base.name, dtype=torch.float32)
    return generated(case, PeftModel.from_pretrained(model, folder(case, "hf/adapter")))


def generated(case: Case, model: Any) -> Said:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder(case, "hf"))
    ids, answers = [], []
    for text in case["inputs"]:
        prompt = tokenizer.apply_chat_template(messages(text), add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            done = model.generate(torch.tensor([prompt]), max_new_tokens=case["n_new"], do_sample=False)[0]
        ids.append(list(prompt))
        answers.append(tokenizer.decode(done[len(prompt) :], skip_special_tokens=True))
    return {"ids": ids, "answers": answers}


def mlx_lm(case: Case) -> Said:
    """What mlx_lm.generate does with the --mlx folder."""
    import mlx_lm as library

    model, tokenizer, *_ = library.load(folder(case, "mlx"))
    ids, answers = [], []
    for text in case["inputs"]:
        prompt = tokenizer.apply_chat_template(messages(text), add_generation_prompt=True)
        ids.append(list(prompt))
        answers.append(library.generate(model, tokenizer, prompt=prompt, max_tokens=case["n_new"]))
    return {"ids": ids, "answers": answers}


def go_template(case: Case) -> Said:
    """The Modelfile's template by Go's text/template, as Ollama fills it in."""
    import go_template as library

    with tempfile.TemporaryDirectory() as place:
        template, values, out = (Path(place) / name for name in ("template", "values.yml", "out"))
        template.write_text(case["ollama"])
        texts = []
        for text in case["inputs"]:
            shown = [*case["ollama_messages"], *messages(text)]
            turns = [{"Role": one["role"], "Content": one["content"]} for one in shown]
            values.write_text(json.dumps({"System": "", "Messages": turns}))
            library.render_template(str(template), str(values), str(out))
            texts.append(out.read_text())
    return {"texts": texts, "note": "Modelfile"}


CLIENTS: dict[str, tuple[str, Callable[[Case], Said]]] = {
    "gguf": ("gguf", metadata),
    "llama-cpp-python": ("llama-cpp-python", llama_cpp_python),
    "llama_cpp.server": ("llama-cpp-python", llama_cpp_server),
    "transformers": ("transformers", transformers),
    "peft": ("peft", peft),
    "mlx_lm.generate": ("mlx-lm", mlx_lm),
    "mlx_lm.server": ("mlx-lm", mlx_lm_server),
    "sg-local serve": ("sg-local", ours_served),
    "sg-local predict": ("sg-local", predicted),
    "go-template (Ollama)": ("go-template", go_template),
}

if __name__ == "__main__":
    main()
