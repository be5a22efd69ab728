"""sg-local: make a local language model good at one task, using nothing but the model itself."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
