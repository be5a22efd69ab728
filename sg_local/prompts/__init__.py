"""Task and template to prompt text, model text back to rows: pure functions, no engine.

Two forms lay out the same task (`layout`): `chat` through the model's own chat template, `plain` as the few-shot text
that base models continue. Where a prompt ends and its answer begins has two layouts (`leads`). A template is rendered
under bounds (`sandbox`, `steps`), with what its family of models wants (`templates`).
"""

from sg_local.prompts.conversation import conversation_prompt, fitted_conversation, is_asked
from sg_local.prompts.layout import (
    MAX_TOKENS,
    Fitted,
    Room,
    Tokenize,
    TooLong,
    answer_heads,
    answer_messages,
    answer_prompt,
    answer_room,
    answer_stops,
    answer_text,
    answer_tokens,
    fitted_answer,
    length_limit,
    majority,
    match_label,
    normalise,
    parse_output,
    plain_head,
    plain_turn,
)
from sg_local.prompts.leads import LAYOUTS, LEAD, WHOLE, in_layout
from sg_local.prompts.lists import continue_input_prompt, continue_output_prompt
from sg_local.prompts.shown import EVERY, in_turn, numbers
from sg_local.prompts.steps import check_syntax
from sg_local.prompts.templates import (
    DATE,
    PLAIN,
    Form,
    Manner,
    chat_form,
    form_named,
    form_of,
    forms,
    forms_of,
    manner_of,
    render,
)

__all__ = [
    "DATE",
    "EVERY",
    "LAYOUTS",
    "LEAD",
    "WHOLE",
    "check_syntax",
    "MAX_TOKENS",
    "PLAIN",
    "Fitted",
    "Form",
    "Manner",
    "Room",
    "Tokenize",
    "TooLong",
    "answer_heads",
    "answer_messages",
    "answer_prompt",
    "answer_room",
    "answer_stops",
    "answer_text",
    "answer_tokens",
    "chat_form",
    "conversation_prompt",
    "continue_input_prompt",
    "continue_output_prompt",
    "fitted_answer",
    "fitted_conversation",
    "form_named",
    "form_of",
    "forms",
    "forms_of",
    "in_layout",
    "in_turn",
    "is_asked",
    "length_limit",
    "majority",
    "manner_of",
    "match_label",
    "normalise",
    "numbers",
    "parse_output",
    "plain_head",
    "plain_turn",
    "render",
]
