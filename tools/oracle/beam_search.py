"""Writes test/fixtures/beam-search.json: results of beam search by the rules of transformers 5.18 (generation/utils.py,
_beam_search), followed with NumPy in float32 over a model that is a table of logits by last token and length.

    python tools/oracle/beam_search.py test/fixtures/beam-search.json
"""

import json
import sys

import numpy as np

F = np.float32
VOCAB, PROMPT = 7, 3


def top(values, k):
    """Indices of the k largest, the earlier first among equals."""
    return np.argsort(-values, kind="stable")[:k]


def log_softmax(x):
    shifted = x - x.max()
    return (shifted - np.log(np.exp(shifted.astype(np.float64)).sum())).astype(F)


def search(table, prompts, beams, returned, max_length, penalty, early, eos, pad):
    batch = len(prompts)
    keep = max(2, 1 + len(eos)) * beams
    running = [[(list(p), F(0 if b == 0 else -1e9)) for b in range(beams)] for p in prompts]
    done = [[(list(p), F(-1e9), False) for _ in range(beams)] for p in prompts]
    unsatisfied = [True] * batch
    length = PROMPT
    while True:
        hits = []
        for i in range(batch):
            scores = np.concatenate([
                (log_softmax(table[len(ids) % len(table), ids[-1]]) + score).astype(F) for ids, score in running[i]
            ])
            best = top(scores, keep)
            ranked = [(running[i][j // VOCAB][0] + [int(j % VOCAB)], scores[j]) for j in best]
            hit = [len(ids) >= max_length or ids[-1] in eos for ids, _ in ranked]
            hits += hit
            open_scores = np.array([F(s + F(h * -1e9)) for (_, s), h in zip(ranked, hit)], F)
            running[i] = [(ranked[j][0], open_scores[j]) for j in top(open_scores, beams)]
            full = all(d for *_, d in done[i]) and early is True
            closing = []
            for rank, ((ids, s), h) in enumerate(zip(ranked, hit)):
                ended = h and rank < beams
                s = F(s / F((length + 1 - PROMPT) ** penalty))
                for excluded in (full, not unsatisfied[i], not ended):
                    s = F(s + F(excluded * -1e9))
                closing.append((ids, s, ended))
            merged = done[i] + closing
            done[i] = [merged[j] for j in top(np.array([s for _, s, _ in merged], F), beams)]
        length += 1
        for i in range(batch):
            span = (max_length if early == "never" and penalty > 0 else length) - PROMPT
            possible = running[i][0][1] / span ** penalty
            worst = min(s for _, s, _ in done[i])
            unsatisfied[i] &= any(possible > (worst if d else F(-1e9)) for *_, d in done[i])
        open_beam = not (all(d for row in done for *_, d in row) and early is True)
        if not (any(unsatisfied) and open_beam and not all(hits)):
            break
    chosen = [beam for row in done for beam in row[:returned]]
    width = max(len(ids) for ids, *_ in chosen)
    fill = (pad or eos[0]) if eos else pad
    return [ids + [fill] * (width - len(ids)) for ids, *_ in chosen], [float(s) for _, s, _ in chosen]


def main(path):
    rng = np.random.default_rng(0)
    cases = []
    for number in range(30):
        table = (rng.standard_normal((3, VOCAB, VOCAB)) * rng.choice([0.5, 2, 4])).astype(F).round(2)
        prompts = rng.integers(0, VOCAB, (int(rng.integers(1, 4)), PROMPT)).tolist()
        beams = int(rng.integers(2, 6))
        options = dict(
            num_beams=beams,
            num_return_sequences=int(rng.integers(1, beams + 1)),
            max_length=PROMPT + int(rng.integers(1, 9)),
            length_penalty=[1.0, 0.0, 0.5, 2.0, -1.0][number % 5],
            early_stopping=[False, True, "never"][number % 3],
            eos_token_id=[[], [1], [1, 4], [2, 3, 5]][int(rng.integers(0, 4))],
            pad_token_id=int(rng.integers(0, 2)) * 6,
        )
        sequences, scores = search(table, prompts, beams, options["num_return_sequences"], options["max_length"],
                                   options["length_penalty"], options["early_stopping"], options["eos_token_id"],
                                   options["pad_token_id"])
        cases.append(dict(table=[[[round(float(x), 2) for x in row] for row in step] for step in table], input_ids=prompts, options=options, sequences=sequences,
                          sequences_scores=scores))
    with open(path, "w") as file:
        for i, case in enumerate(cases):
            text = json.dumps(case, separators=(",", ":"), default=float)
            file.write(("[" if i == 0 else ",\n") + text)
        file.write("]\n")


main(sys.argv[1])
