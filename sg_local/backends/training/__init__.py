"""What both trainers share: the loop, LoRA's matrices, checkpoints, the memory check, the hand-over to a child."""
