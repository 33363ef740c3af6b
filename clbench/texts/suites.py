"""Published suites of text tasks: in which order their tasks are learnt, and how each is scored."""

from __future__ import annotations

SUPERNI_ORDERS = {
    1: (
        "task1572_samsum_summary",
        "task363_sst2_polarity_classification",
        "task1290_xsum_summarization",
        "task181_outcome_extraction",
        "task002_quoref_answer_generation",
        "task1510_evalution_relation_extraction",
        "task639_multi_woz_user_utterance_generation",
        "task1729_personachat_generate_next",
        "task073_commonsenseqa_answer_generation",
        "task1590_diplomacy_text_generation",
        "task748_glucose_reverse_cause_event_detection",
        "task511_reddit_tifu_long_text_summarization",
        "task591_sciq_answer_generation",
        "task1687_sentiment140_classification",
        "task875_emotion_classification",
    ),
    2: (
        "task748_glucose_reverse_cause_event_detection",
        "task073_commonsenseqa_answer_generation",
        "task1590_diplomacy_text_generation",
        "task639_multi_woz_user_utterance_generation",
        "task1572_samsum_summary",
        "task1687_sentiment140_classification",
        "task591_sciq_answer_generation",
        "task363_sst2_polarity_classification",
        "task1510_evalution_relation_extraction",
        "task1729_personachat_generate_next",
        "task181_outcome_extraction",
        "task511_reddit_tifu_long_text_summarization",
        "task002_quoref_answer_generation",
        "task1290_xsum_summarization",
        "task875_emotion_classification",
    ),
}
"""Orders 1 and 2 of SAPT (arXiv 2401.08295) over 15 tasks of Super-NaturalInstructions, as in its released scripts."""

LONG_SEQUENCE_ORDERS = {
    4: (
        *("mnli", "cb", "wic", "copa", "qqp"),
        *("boolq", "rte", "imdb", "yelp", "amazon"),
        *("sst2", "dbpedia", "agnews", "multirc", "yahoo"),
    ),
    5: (
        *("multirc", "boolq", "wic", "mnli", "cb"),
        *("copa", "qqp", "rte", "imdb", "sst2"),
        *("dbpedia", "agnews", "yelp", "amazon", "yahoo"),
    ),
    6: (
        *("yelp", "amazon", "mnli", "cb", "copa"),
        *("qqp", "rte", "imdb", "sst2", "dbpedia"),
        *("agnews", "yahoo", "multirc", "boolq", "wic"),
    ),
}
"""Orders 4, 5 and 6 of O-LoRA (arXiv 2310.14152) over 15 tasks. SAPT's scripts call the first of them 5, the last 4."""

TRACE_SCORES = {
    "C-STANCE": "exact_match",
    "FOMC": "exact_match",
    "MeetingBank": "rouge_l",
    "Py150": "fuzzy_ratio",
    "ScienceQA": "first_character",
    "NumGLUE-cm": "exact_match",
    "NumGLUE-ds": "exact_match",
    "20Minuten": "sari",
}
"""Score of each task of TRACE (arXiv 2310.06762), by name in `clbench.texts.scoring`; its code averages percents."""

TRACE_ORDER = tuple(TRACE_SCORES)
"""The order of TRACE's scripts."""
