"""Model cards, the files on this machine, `pull` from the Hub, and whether a model fits in memory."""

from sg_local.models.cards import Card, Source, add, read_card, read_cards
from sg_local.models.find import DEFAULT, Entry, Model, find_model, list_models, locate, pull
from sg_local.models.hub import download, quantisation

__all__ = [
    "DEFAULT",
    "Card",
    "Entry",
    "Model",
    "Source",
    "add",
    "download",
    "find_model",
    "list_models",
    "locate",
    "pull",
    "quantisation",
    "read_card",
    "read_cards",
]
