"""The architectures that are trained, one row each, and why others are not.

To add one, add its row; where its block also computes something else than the blocks here, teach the two forward
passes (`backends/torch/forward.py`, `backends/mlx/forward.py`). Facts: llama.cpp's converter and its `src/models`, and
transformers' model classes. llama.cpp is what runs the tuned model, so where the two differ a row follows llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sg_local.gguf.architecture import HEAD_NORMS, Architecture, Matrix

LLAMA = Architecture(
    name="llama",
    models="Llama 2 and 3, Vicuna, SmolLM2, TinyLlama and kin",
    model_type="llama",
    model_class="LlamaForCausalLM",
    matrices=(
        Matrix("attn_q", "self_attn.q_proj", ("q",), "hidden", heads="q"),
        Matrix("attn_k", "self_attn.k_proj", ("kv",), "hidden", heads="kv"),
        Matrix("attn_v", "self_attn.v_proj", ("kv",), "hidden", heavy=True),
        Matrix("attn_output", "self_attn.o_proj", ("hidden",), "q"),
        Matrix("ffn_gate", "mlp.gate_proj", ("ffn",), "hidden"),
        Matrix("ffn_up", "mlp.up_proj", ("ffn",), "hidden"),
        Matrix("ffn_down", "mlp.down_proj", ("hidden",), "ffn", heavy=True),
    ),
    norms={"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
    constants={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # a right copy stays near 1e-4; one with q's and k's rows in a wrong order is off by more than 1
)

# llama.cpp rotates its halves (rope type NEOX): rows lie as in transformers. The biases are not adapted.
QWEN2 = Architecture(
    name="qwen2",
    models="Qwen2 and 2.5",
    model_type="qwen2",
    model_class="Qwen2ForCausalLM",
    matrices=tuple(replace(m, heads=None, bias=m.stem in ("attn_q", "attn_k", "attn_v")) for m in LLAMA.matrices),
    norms=LLAMA.norms,
    constants={"hidden_act": "silu", "use_sliding_window": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: the same operations and a sum more
)

QWEN3 = Architecture(
    name="qwen3",
    models="Qwen3, dense",
    model_type="qwen3",
    model_class="Qwen3ForCausalLM",
    matrices=tuple(replace(matrix, heads=None) for matrix in LLAMA.matrices),
    norms={**LLAMA.norms, **HEAD_NORMS},
    constants={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: the norms of queries and keys are float32 on both sides
)

GRANITE = Architecture(
    name="granite",
    models="Granite 3 and 4, dense",
    model_type="granite",
    model_class="GraniteForCausalLM",
    matrices=LLAMA.matrices,
    norms=LLAMA.norms,
    constants=LLAMA.constants,
    settings={
        "attention_multiplier": "attention.scale",
        "embedding_multiplier": "embedding_scale",
        "residual_multiplier": "residual_scale",
        "logits_scaling": "logit_scale",
    },
    fixed={"rope.scaling.finetuned": True},  # llama.cpp's switch for positions
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: a factor more here and there
)

# llama.cpp fixes the step (n_no_rope_layer_step = 4); transformers' default is the same.
SMOLLM3 = Architecture(
    name="smollm3",
    models="SmolLM3",
    model_type="smollm3",
    model_class="SmolLM3ForCausalLM",
    matrices=LLAMA.matrices,
    norms=LLAMA.norms,
    constants={**LLAMA.constants, "no_rope_layer_interval": 4, "use_sliding_window": False},
    rope_scalings=("none", "linear"),
    unrotated=4,
    tolerance=1e-3,  # as llama; a layer that is rotated against its kind is off by more than 0.1
)

OLMO2 = Architecture(
    name="olmo2",
    models="OLMo 2",
    model_type="olmo2",
    model_class="Olmo2ForCausalLM",
    matrices=QWEN3.matrices,
    norms={
        **HEAD_NORMS,
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    constants={"hidden_act": "silu", "attention_bias": False},
    fixed={"attention.sliding_window": 0},  # OLMo 3 comes under the same name
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: the norms stand elsewhere
)

# The window counts the token itself. llama.cpp writes 1 + weight into the norms, which takes no part in an adapter.
GEMMA2 = Architecture(
    name="gemma2",
    models="Gemma 2",
    model_type="gemma2",
    model_class="Gemma2ForCausalLM",
    matrices=QWEN3.matrices,
    norms={
        "attn_norm": "input_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    constants={"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False},
    norm_offset=1.0,
    pattern=2,
    window=4096,
    caps={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    activation="gelu",
    scaled_embedding=True,
    own_head=False,
    wide_layers=46,  # Gemma 2 27B
    tolerance=1e-2,  # ggml looks GELU up in a table of float16: transformers' own model is off by 3e-3 as well
)

GEMMA3 = replace(
    GEMMA2,
    name="gemma3",
    models="Gemma 3, its text",
    model_type="gemma3_text",
    model_class="Gemma3ForCausalLM",
    norms={**GEMMA2.norms, **HEAD_NORMS},
    rope_scalings=("none", "linear"),
    pattern=6,
    window=0,
    window_rope_base=10000.0,
    caps={"final_logit_softcapping": 0.0},
    own_head=True,
    wide_layers=62,  # Gemma 3 27B
    tolerance=1e-2,  # as gemma2
)

# Queries, keys and values are one tensor, and so are gate and up, each with one LoRA pair. llama.cpp has switched off
# the window that some of these files name. Long factors (longrope) are refused: see config.
PHI3 = Architecture(
    name="phi3",
    models="Phi-3 and Phi-4 with a context of 4k to 16k",
    model_type="phi3",
    model_class="Phi3ForCausalLM",
    matrices=(
        Matrix("attn_qkv", "self_attn.qkv_proj", ("q", "kv", "kv"), "hidden", heavy=True),
        Matrix("attn_output", "self_attn.o_proj", ("hidden",), "q"),
        Matrix("ffn_up", "mlp.gate_up_proj", ("ffn", "ffn"), "hidden"),
        Matrix("ffn_down", "mlp.down_proj", ("hidden",), "ffn", heavy=True),
    ),
    norms=LLAMA.norms,
    constants={"hidden_act": "silu", "sliding_window": None},
    rotates_part=True,
    tolerance=1e-3,  # as llama: the same operations
)

MISTRAL3 = Architecture(
    name="mistral3",
    models="Ministral 3 and Mistral Small 3, their text",
    model_type="ministral3",
    model_class="Ministral3ForCausalLM",
    matrices=LLAMA.matrices,
    norms=LLAMA.norms,
    constants={"hidden_act": "silu", "sliding_window": None},
    rope_scalings=("none", "linear", "yarn"),
    temperature=True,
    tolerance=1e-3,  # as llama: a factor more for late positions
)

_ROWS = (LLAMA, QWEN2, QWEN3, GRANITE, SMOLLM3, OLMO2, GEMMA2, GEMMA3, PHI3, MISTRAL3)
ARCHITECTURES: Mapping[str, Architecture] = {row.name: row for row in _ROWS}
"""Every row, by general.architecture."""


_EXPERTS = """llama4 gpt-oss qwen2moe qwen3moe qwen3vlmoe phimoe olmoe granitemoe glm4moe dbrx grok arctic deepseek
deepseek2 deepseek32 ernie4_5-moe hunyuan-moe bailingmoe bailingmoe2 dots1 cohere2moe exaone-moe minimax-m2 smallthinker
grovemoe afmoe mistral4 llada-moe mimo2"""
_STATES = """mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7 jamba falcon-h1 plamo2 granitehybrid lfm2 lfm2moe nemotron_h
nemotron_h_moe qwen3next qwen35 qwen35moe kimi-linear minimax-01"""
_EMBEDDERS = """bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert gemma-embedding
llama-embed t5encoder"""
# llama.cpp's names (src/llama-arch.cpp), by what the trainers' blocks do not compute.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(_EXPERTS.split(), "a mixture of experts"),
    **dict.fromkeys(_STATES.split(), "whose layers carry a state (recurrent or hybrid)"),
    **dict.fromkeys(_EMBEDDERS.split(), "a model of embeddings, which writes no text"),
    "gemma3n": "whose layers have embeddings of their own",
    "t5": "an encoder with a decoder",
}
"""Why known architectures cannot be trained: a clause behind their name. Others without a row cannot be either."""


def why_unknown(architecture: str) -> str:
    """One sentence on an architecture that has no row."""
    clause = f", {REFUSED[architecture]}" if architecture in REFUSED else ""
    return f"its architecture is {architecture or 'not named'}{clause}."


def targets_of(architecture: str) -> tuple[str, ...]:
    """What an adapter may change in such a model; for an architecture without a row, what it may in any."""
    rows = [ARCHITECTURES[architecture]] if architecture in ARCHITECTURES else list(ARCHITECTURES.values())
    return tuple(dict.fromkeys(stem for row in rows for stem in row.targets))
