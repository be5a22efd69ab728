"""What each setting means, in one line: for `config show` and docs/settings.md. A test holds them to the settings."""

from __future__ import annotations

RULES = {
    "empty": "no vote gave it an output",
    "noise": "the input has no letter or digit",
    "input_length": "the input is much shorter or longer than the examples' inputs",
    "output_length": "the output is much shorter or longer than the examples' outputs",
    "copied_example": "the input repeats an example",
    "duplicate": "the same input was accepted before",
    "near_duplicate": "the input is almost the same as an accepted one",
    "named_label": "the input says a label, though no example's input does",
    "refusal": "the model refused or talked about itself",
    "label": "the output is not one of the task's labels",
    "schema": "the output is not JSON that fits the task's schema",
    "vote_share": "too few of the votes agree",
    "consistency": "the votes give another label than the input was written for",
    "relevance": "its output is hardly more likely after its input than after other inputs",
    "grounding": "too few of the output's words are in the input",
    "copied_input": "the output repeats the input, though no example does so",
    "copied_output": "the output repeats an example's output that other inputs hardly have",
    "personal": "the row holds what looks like personal data",
    "balance": "its label has too many rows already",
}
"""When each filter rule rejects a row."""

ENGINE = {
    "n_ctx": "Context of one sequence, in tokens.",
    "n_parallel": "Sequences decoded together; none: chosen for the model and the machine.",
    "n_threads": "Processor threads; none: as many as other programs leave free.",
    "fast_copy": "Keep a copy of the weights in a format that this machine computes faster.",
    "gpu_layers": "Layers of the model on the GPU; -1: all of them.",
    "endpoint": "Address of a server that writes and scores in place of an engine here.",
    "endpoint_model": "The base's name on that server.",
    "endpoint_timeout_s": "Longest time of one request to that server, in seconds or as 2m.",
    "cache": "Folder for faster copies; none: the user's cache folder.",
    "format": "Which format of the weights runs, `as given` or a copy's; none: the fastest in a short trial.",
    "n_replicas": "Contexts that compute side by side, each on some rows; none: two on two processors, else one.",
}
OWN = {
    "share": "Weight of your own labelled rows among all training rows, where they are few.",
    "weight": "The most that one of your own rows counts, in synthetic rows.",
    "valid": "Share of your own rows that may be used for validation.",
    "tests": "Share of your own rows held back as test rows, where the task has none.",
}
SYNTH = {
    "n_inputs": "How many accepted inputs are wanted; none: whatever `n_asked` yields.",
    "n_asked": "The most inputs that the model is asked to write.",
    "style": "How inputs are asked for: continue (recommended) or paper.",
    "steer": "Vary what each prompt asks for, so that inputs differ more.",
    "balance": "Ask most for the labels that are rarest so far.",
    "round_size": "Inputs asked for before the pool of examples is renewed.",
    "n_pool": "Accepted inputs shown beside the examples in a prompt.",
    "n_per_draw": "Inputs of a label asked for with the same examples from the pool, which are read once.",
    "temperature": "Sampling temperature while inputs are written.",
    "hotter": "Added to the temperature while a third of the inputs are duplicates.",
    "top_k": "Sample each token from this many most likely ones.",
    "top_p": "Sample each token from the most likely ones, up to this total probability.",
    "n_votes": "Answers sampled for each input; the majority is its output.",
    "vote_temperature": "Sampling temperature of these answers.",
    "vote_top_k": "Sample each token of these answers from this many most likely ones.",
    "constrain": "Let answers be only labels, or only JSON that fits the schema.",
    "score_labels": "Also compute how likely the model finds each label.",
    "channel": "Also compute how likely each label makes the input.",
    "n_orders": "Orders of the examples over which `channel` and `backward` scores are averaged.",
    "backward": "Where answers have equally many votes, take the one that makes the input likeliest (generation).",
    "max_tokens": "Longest input or output, in tokens.",
    "n_ctx": "Context that a prompt and its answer may fill, in tokens.",
    "chunk_size": "Inputs that are answered together, between two writes to disk.",
    "collapse_asked": "After this many inputs, check whether the model writes usable ones.",
    "collapse_share": "Stop where fewer than this share of them are accepted.",
}
TRAIN = {
    "rank": "Rank of the LoRA matrices.",
    "alpha": "LoRA scale: the adapter's effect is multiplied by alpha / rank.",
    "dropout": "Dropout on the adapter's input.",
    "lr": "Learning rate at its peak.",
    "epochs": "Passes over the training rows, those of all rounds together.",
    "batch_size": "Rows computed together.",
    "grad_accumulation": "Batches summed before each optimiser step.",
    "schedule": "Learning-rate schedule after the warm-up.",
    "warmup": "Share of the steps in which the learning rate rises.",
    "weight_decay": "Weight decay of the optimiser.",
    "max_grad_norm": "Gradients are clipped to this norm.",
    "n_layers": "Layers that get an adapter, counted from the last; none: a share of them, `layer_share`.",
    "layer_share": "Share of the layers that gets an adapter, from the last; in classification presets say 0.5.",
    "patience": "Stop after this many validations without improvement; 0: never.",
    "valid_every": "Steps between two validations.",
    "checkpoint_every": "Steps between two checkpoints.",
    "share_prefix": "Compute the tokens that all rows begin with once a step.",
    "layout": "lead: a space before each answer; whole: the prompt ends where the answer begins.",
    "shown": "Examples that training prompts show, in turn (all,1,0); the last is how many are shown in use.",
    "policies": "Label policies whose rows are tried in a training each; the examples choose the best.",
    "generations": "Rounds of training that share the epochs; each uses labels from the model before (classification).",
    "soft": "Share of each row's training target taken from its label scores instead of its label, 0 to 1.",
    "n_seeds": "Number of adapters, each trained with its own seed; the run uses their mean.",
    "lr_by_width": "Treat `lr` as the rate for a 7B model, and raise it for narrower ones.",
    "time_s": "Train no longer than this, in seconds or as 20m, 1h30; none: no limit.",
    "seed": "Random seed of the training; set by --seed.",
    "n_threads": "Processor threads; none: chosen by the engine.",
    "precision": "Precision of the base's products on a CPU: f32, bf16, or auto (bf16 if the processor multiplies it).",
}
EXPORT = {
    "types": "File types to write: auto, same, names such as Q6_K or Q4_K_M_imat; none: the adapter alone.",
    "seed": "Random seed that chooses the rows of the checks.",
    "plain_template": "Leave the model's own chat template in the file.",
    "from_f16": "An unquantised GGUF of the same model to merge into.",
    "mlx": "Also write a folder for mlx-lm here.",
    "hf": "Also write a folder for transformers here.",
    "without_demonstrations": "Leave the task's examples out of all that is written.",
    "may_lose": "Most points of score that a file may lose (95 % confidence, on the run's own rows); none: no limit.",
    "min_retained": "Least share of the tuning that a tensor must keep.",
    "min_tensors": "Least share of the tensors that must keep it.",
    "min_gain": "Least share of the gain in validation loss that the file must keep.",
    "min_equal": "Least share of answers that must equal those of base + adapter.",
    "n_rows": "Rows scored in the check.",
    "n_answers": "Rows answered in the check.",
    "max_tokens": "Longest answer in the check, in tokens.",
    "n_ctx": "Context of the check, in tokens.",
}
EVAL = {
    "n_votes": "Answers sampled for each test row by the systems that vote.",
    "vote_temperature": "Sampling temperature of these answers.",
    "vote_top_k": "Sample each token of these answers from this many most likely ones.",
    "tuned_vote": "Also measure the tuned model with voting.",
    "n_dev": "Synthetic rows that help to choose the base's prompt format.",
    "n_calibration": "Synthetic inputs over which label scores are calibrated.",
    "n_context": "Synthetic pairs in the prompt of an extra untuned system; 0: leave it out.",
    "tuned_examples": "Also train on the task's examples alone, and measure that.",
    "retain": "Also measure forgetting outside the task.",
    "constrain": "Let free answers be only JSON that fits the schema, where the task has one.",
    "abstain": "Report how many answers stay, and are right, above this probability; 0: do not.",
    "ensemble": "Orders of the examples in an extra untuned system for labels; 0: leave it out.",
    "mbr": "Samples of an extra untuned system, which takes the one most like the others; 0: leave it out.",
    "mbr_temperature": "Sampling temperature of these samples.",
    "canaries": "Secrets planted in a second training, to measure memorisation; 0: none.",
    "score_files": "Let each exported file answer the test rows itself.",
    "leak_threshold": "Test rows this similar to an example or a training row are left out.",
    "max_tokens": "Longest answer, in tokens; serving uses it too.",
    "n_ctx": "Context that a prompt and its answer may fill, in tokens.",
    "chunk_size": "Rows answered between two writes to disk.",
    "resamples": "Bootstrap resamples behind each confidence interval.",
    "seed": "Random seed of draws and resamples; set by --seed.",
}
SERVE = {
    "body_bytes": "Largest request body, in bytes or as 2MiB.",
    "prompts": "Most prompts times choices in a request.",
    "questions": "Most questions in a decision request.",
    "tokens": "Most new tokens that one choice may ask for.",
    "schema_bytes": "Largest JSON schema in a request.",
    "queue": "Most choices and decision questions under way, over all requests.",
    "connections": "Most connections at a time.",
    "request_s": "Longest time for a whole request.",
    "header_s": "Longest time until a request's head has come.",
    "body_s": "Longest time until a request's body has come.",
    "write_s": "Longest time until a client has taken what was sent.",
    "idle_s": "How long a connection stays open between requests.",
}
FILTER = {
    "policy": "Which label a row is trained on: auto, voted, asked, calibrated, ensemble, agree, ranked or mbr.",
    "evidence": "Scores that rows are judged by: direct, or both where `synth.channel` was on.",
    "on": "Reject a row when {rule}.",
    "sigmas": "Allowed length, in standard deviations from the examples' mean.",
    "widest": "Allowed length at least from mean / this to mean * this.",
    "ratio": "The most rows of a label, in rows of the rarest one.",
    "at_least": "Rows that every label may have in any case.",
}
SINGLE = {
    "agreement.threshold": "Similarity (ROUGE-L) from which two written outputs count as the same.",
    "agreement.on": "Without effect: `filter.policy` decides.",
    "near_duplicate.threshold": "Similarity (ROUGE-L) to an accepted input from which an input is rejected.",
    "copied_example.threshold": "Similarity (ROUGE-L) to an example from which an input is rejected.",
    "vote_share.threshold": "Least share of the votes that an output must have.",
    "relevance.threshold": "Least gain in log-probability, a token, that the input must give its output.",
    "grounding.threshold": "Least share of the output's words that must be in the input, relative to the examples.",
}
"""Filter settings with a line of their own."""

STAGES = {"engine": ENGINE, "own": OWN, "synth": SYNTH, "train": TRAIN, "export": EXPORT, "eval": EVAL, "serve": SERVE}


def meaning(dotted: str) -> str:
    """What the setting `stage.field` or `filter.rule.field` means; empty for one that nobody has explained yet."""
    stage, *names = dotted.split(".")
    if stage != "filter":
        return STAGES.get(stage, {}).get(names[-1], "")
    name = names[0]
    return SINGLE.get(".".join(names)) or FILTER.get(names[-1], "").format(rule=RULES.get(name, ""))


def choices_of(field: str) -> tuple[str, ...]:
    """The words that a setting may have by the last part of its name; empty where it takes any value."""
    from sg_local.filters import POLICIES
    from sg_local.filters.settings import EVIDENCE
    from sg_local.gguf.quant_mix import EXPORT_TYPES, WEIGHTED_TYPES

    words = {
        "policy": POLICIES,
        "policies": POLICIES,
        "evidence": EVIDENCE,
        "types": ("auto", "same", *EXPORT_TYPES, *WEIGHTED_TYPES),
    }
    return words.get(field, ())
