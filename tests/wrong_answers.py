"""Typical wrong answers to the exercises: check -> (answer, part of the sentence meant for it).

``{solution}`` stands for the notebook's own solution.
"""

WRONG = {
    "check_whale": [
        ("wrong = {'array': studio.mean(axis=1)[:20_000], 'sampling_rate': 16_000}", "you resampled it"),
        ("wrong = {'array': studio, 'sampling_rate': 16_000}", "mix the channels down"),
        ("wrong = {'array': studio.mean(axis=1), 'sampling_rate': 44_100}", "which is the truth"),
    ],
    "check_leak": [
        ("leak = lambda a, b: {r['caption'] for r in a} & {r['caption'] for r in b}", "you compare captions"),
        ("leak = lambda a, b: {r['audiocap_id'] for r in a} & {r['audiocap_id'] for r in b}", "you found none"),
    ],
    "check_placeholders": [
        ("placeholders = lambda seconds: round(25 * seconds)", "halved twice"),
        ("placeholders = lambda seconds: int(25 * seconds)", "halved twice"),
        ("placeholders = lambda seconds: 'many'", "has to be a number"),
    ],
    "check_label_count": [
        ("counts = [len(processor.tokenizer(e['caption'])['input_ids']) for e in examples]", "one too few"),
        ("counts = [1, 2, 3, 4]", "count its tokens"),
    ],
    "check_answer_labels": [
        (
            "def answer_labels(ids, header, end):\n    n = len(header)\n"
            "    start = max(i for i in range(len(ids)) if ids[i:i + n] == header) + n\n    stop = ids.index(end, "
            "start) + 1\n"
            "    return [-100] * start + ids[start:stop] + [-100] * (len(ids) - stop)",
            "only the last has labels",
        ),
        ("{solution}\nright = answer_labels\nanswer_labels = lambda *a: right(*a)[1:] + [-100]", "one place off"),
        (
            "{solution}\nright = answer_labels\nanswer_labels = lambda ids, h, end: [-100 if x == end else x for x "
            "in right(ids, h, end)]",
            "never learns to stop",
        ),
    ],
    "check_smallest_k": [
        ("{solution}\nk -= 1", "position before it"),
        ("{solution}\nk += 1", "go on"),
        ("{solution}\nk -= 3", "cut off"),
    ],
    "check_lora_parameters": [
        ("lora_parameters = lambda i, o, r: r * i * o", "multiply the two sides"),
        ("lora_parameters = lambda i, o, r: 2 * r * i", "as wide as the inputs"),
    ],
    "check_whose_curve": [
        ("slow, right, fast = curve_rates()\nrates = {'A': fast, 'B': right, 'C': slow}", "not the fastest"),
        ("slow, right, fast = curve_rates()\nrates = {'A': slow, 'B': fast, 'C': right}", "exchanged"),
    ],
    "check_deaf_student": [
        ("prediction = {'last loss': 6.0, 'f1': 0.1}", "style can be learned without listening"),
        ("prediction = {'last loss': 1.5, 'f1': 0.9}", "nothing here rewarded listening"),
    ],
    "check_omissions": [
        ("outcomes = dict.fromkeys(['the slice', 'the dtype', 'disable_adapter'], 'error')", "not all of them raise"),
        ("{solution}\noutcomes['the dtype'] = 'silence'", "the dtype gives an error"),
        ("{solution}\noutcomes['the slice'] = 'error'", "the slice gives silence"),
    ],
    "check_f1_by_hand": [
        (
            "f1 = lambda n, t: sum(2 * len(a & b) / (len(a) + len(b)) for a, b in zip(n, t)) / len(n)",
            "mean of five F1s",
        ),
        ("f1 = lambda n, t: sum(len(a & b) for a, b in zip(n, t)) / sum(map(len, t))", "is recall"),
        ("f1 = lambda n, t: sum(len(a & b) for a, b in zip(n, t)) / sum(map(len, n))", "is precision"),
    ],
    "check_luck": [
        (
            "from helpers import bootstrap_difference, event_f1\n"
            "difference = bootstrap_difference(before_counts, after_counts, event_f1)",
            "turn it round",
        ),
        (
            "from helpers import bootstrap_interval, event_f1\nfrom helpers.metrics.intervals import Interval\n"
            "a, b = (bootstrap_interval(c, event_f1) for c in (after_counts, before_counts))\n"
            "difference = Interval(a.value - b.value, a.low - b.high, a.high - b.low)",
            "two intervals apart",
        ),
        ("difference = -0.05", "give the Interval"),
    ],
    "check_merge": [
        ("merge = lambda W, A, B, alpha, rank: W + alpha / rank * A @ B", "B stands on the left"),
        ("merge = lambda W, A, B, alpha, rank: W + rank / alpha * B @ A", "upside down"),
        ("merge = lambda W, A, B, alpha, rank: alpha / rank * B @ A", "correction alone"),
    ],
    "check_forgetting": [
        ("{solution}\nfull = forgetting\nforgetting = lambda b, t, c: full(b[:4], t[:4], c[:4])", "on four clips"),
        ("{solution}\nfull = forgetting\nforgetting = lambda b, t, c: full(t, b, c)", "turn it round"),
    ],
    "check_mix": [
        ("mix = lambda examples, question: examples", "half of them is the task"),
        ("mix = lambda examples, question: examples[:2]", "none may be lost"),
        (
            "mix = lambda ex, q: [e | ({'messages': [{'role': 'user', 'content': q}, {'role': 'assistant', 'content': "
            "e['caption']}]} if n % 2 else {}) for n, e in enumerate(ex)]",
            "answers with the caption",
        ),
    ],
    "check_clips_needed": [
        ("clips_needed = lambda width, clips, wanted: clips * width / wanted", "grows linearly"),
        ("clips_needed = lambda width, clips, wanted: clips", "it takes about"),
    ],
    "check_black_boxes": [
        ("verdict = {'listens': 'A', 'deaf': 'B', 'repeats': 'C'}", "no proof of listening"),
        ("verdict = {'listens': 'A', 'deaf': 'C', 'repeats': 'B'}", "does not always say the same"),
    ],
    "check_paired": [
        ("{solution}\npair = (hard, hard)", "are the same"),
        ("{solution}\npair = (hard + 5, hard)", "do not even touch"),
        ("{solution}\npair = (hard, hard[::-1])", "holds zero"),
    ],
    "check_faults": [
        ("{solution}\nfaults['wrong rate'] = 'take05.wav'", "compare the rates"),
        ("{solution}\nfaults['in both halves'] = ('take01.wav', 'take18.wav')", "compare the arrays"),
    ],
    "check_split": [
        ("split = lambda clips, share: (clips[round(share * len(clips)):], clips[:round(share * len(clips))])",
         "is on both sides"),
        ("split = lambda clips, share: ([c for c in clips if 'coin' not in c['caption']],"
         " [c for c in clips if 'coin' in c['caption']])", "nobody can learn it"),
        ("split = lambda clips, share: ([c for c in clips if c['source'] != 'drill_0'],"
         " [c for c in clips if c['source'] == 'drill_0'])", "whether it was learned"),
        ("split = lambda clips, share: (clips[:20], clips[30:])", "none may be lost"),
        ("split = lambda clips, share: ([c for c in clips if c['source'][-1] == '0'],"
         " [c for c in clips if c['source'][-1] != '0'])", "the share asked for"),
        ("split = lambda clips, share: clips", "return two lists"),
    ],
    "check_keep": [
        ("keep = lambda history, saved: saved[-1]", "is the last"),
        ("keep = lambda history, saved: min((r for r in history if 'loss' in r), key=lambda r: r['loss'])['step']",
         "known by heart"),
        ("keep = lambda history, saved: min((r for r in history if 'eval_loss' in r), "
         "key=lambda r: r['eval_loss'])['step']", "has no checkpoint"),
        ("keep = lambda history, saved: saved[0]", "look for the lowest eval_loss"),
    ],
    "check_diagnosis": [
        ("{solution}\ndiagnosis['A'] = 'healthy'", "learned the style alone"),
        ("{solution}\ndiagnosis['E'] = 'captions shuffled'", "times as loud"),
        ("{solution}\ndiagnosis['B'] = 'the flu'", "not on the list"),
    ],
    "check_precisions": [
        ("{solution}\ngigabytes['4-bit'] = 2 * 8.27 / 4", "a quarter of everything"),
        ("gigabytes = {'float32': 8.27, 'bfloat16': 16.5, '4-bit': 6.9}", "parameters times bytes"),
    ],
    "check_memory_plan": [
        ("{solution}\nsettings['gradient_accumulation_steps'] = 2", "16 must remain"),
        ("{solution}\nsettings['checkpointing'] = False", "turn the next lever"),
    ],
    "check_resume": [
        ("overrides = {'save_only_model': True}", "save_only_model has to be False"),
        ("overrides = [False]", "as a dictionary"),
    ],
}
