"""sg-local: make a local language model good at one task, using nothing but the model itself."""

__version__ = "0.1.0"
