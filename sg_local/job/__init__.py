"""The whole job: one run folder with its task, model and settings, and the stages that fill it."""
