"""The only importer of Rich: cards, tables, the live view of a run, the review screen.

What the screens show comes in as the plain records of `sg_local.console.views`, which imports no Rich. Text that a
model wrote is always put into `rich.text.Text`, never parsed as markup.
"""
