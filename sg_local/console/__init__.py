"""The only importer of Rich: cards, tables, the live view of a run, the review screen.

What the screens show comes in as the plain records of `sg_local.views.records`, which imports no Rich. Text that a
model wrote is always put into the `Text` of text.py, never parsed as markup, and steers no terminal.
"""
