"""The torch trainer: LoRA on a llama GGUF, in bfloat16 on a CUDA GPU and in float32 on the CPU.

It trains on the file's own weights (dequantised), shares the rows' common prefix, checks itself against
llama.cpp before and after (backends.parity), and writes the adapter as a GGUF and in peft's format. To train on
several GPUs or machines, start `python -m sg_local.backends.torch` under torchrun (see `__main__`).

This package is always meant by its full name: `import torch` anywhere in it is the library.
"""

from sg_local.backends.torch.trainer import TorchTrainer, open_trainer

__all__ = ["TorchTrainer", "open_trainer"]
