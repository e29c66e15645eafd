"""Greedy decoding that is greedy: the likeliest next token and nothing else."""

GREEDY = {
    "do_sample": False, "num_beams": 1,
    # How a sampler would bend the scores: of no use here, and the library would warn about them.
    **dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")),
    # What bends the scores whether or not there is sampling. (A penalty of None would be filled in from the model's own
    # configuration where these stand in a configuration and not in a call; 1 is a penalty that changes nothing.)
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias",
                     "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
                     "exponential_decay_length_penalty", "min_length", "min_new_tokens", "guidance_scale",
                     "watermarking_config", "renormalize_logits", "remove_invalid_values", "penalty_alpha",
                     "dola_layers")),
}
"""Arguments of ``generate`` that make it take the token with the highest score, whatever the model's own generation
configuration says: ``None`` switches a knob off.

AF3's on the Hub not only samples (temperature 0.7, top-k 20, top-p 0.8). It also has a ``repetition_penalty`` of 1.05,
which stays on without sampling and lowers the score of each word that the prompt or the answer has used already: a
model that is asked to describe the audio says "audio" less often than it would.
"""
