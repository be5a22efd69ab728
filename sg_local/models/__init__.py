"""Model cards, the models on this machine whoever fetched them, and `pull` from the Hub."""

from sg_local.models.cards import Card, Source, add, read_card, read_cards
from sg_local.models.fetch import Fetcher
from sg_local.models.find import (
    DEFAULT,
    Model,
    ModelEntry,
    find_card,
    find_model,
    list_models,
    locate,
    why_not_trainable,
)
from sg_local.models.hub import quantisation
from sg_local.models.pull import pull, removal, remove, why_not_trained
from sg_local.models.stores import OTHER_PROGRAMS

__all__ = [
    "DEFAULT",
    "OTHER_PROGRAMS",
    "Card",
    "Fetcher",
    "Model",
    "ModelEntry",
    "Source",
    "add",
    "find_card",
    "find_model",
    "list_models",
    "locate",
    "pull",
    "quantisation",
    "read_card",
    "read_cards",
    "removal",
    "remove",
    "why_not_trainable",
    "why_not_trained",
]
