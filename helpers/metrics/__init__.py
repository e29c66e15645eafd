"""How good captions are: agreement with people's words, events named, and how sure the numbers are."""

SCORES = {"eval_cider_d": "CIDEr-D", "eval_event_f1": "event F1"}
"""What is measured of captions while a model trains: key in the Trainer's log -> name for people."""
