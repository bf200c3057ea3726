"""Perplexity by length and passkey retrieval by length, for each way to attend, on books by authors not trained on.

    python evaluate.py --model build/model.safetensors --tokenizer build/tokenizer.json --books eval --out eval.json

Every length is scored on the same tokens: a stretch of 32,768 tokens is read as 32 texts of 1,024, 16 of 2,048, and
so on, each beginning with `<|endoftext|>`. A passkey counts if greedy decoding gives the space and all five digits.
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from data import BOS, GAP, HEAD, NEEDLE, QUESTION, REPEATED
from model import Config, Method, load_model

LENGTHS = [1024, 2048, 4096, 8192, 16384, 32768]
STRETCH = LENGTHS[-1]
PARTS = ["passkey_books", "passkey_repeated", "perplexity"]
CONFIG = Config()
C = CONFIG.trained_len
PRESETS = {"paper": (3 * C // 4, C - 1), "chunkllama": (3 * C // 4 - C // 8, 3 * C // 4)}


def methods_for(length, exact=False):
    """NTK-aware is told the length beforehand: its factor is length / c."""
    methods = {"none": Method(exact=exact), "ntk": Method(exact=exact, ntk_factor=max(1.0, length / C))}
    for preset, (chunk_len, max_distance) in PRESETS.items():
        for scale in ("none", "yarn", "logn"):
            methods[f"dca:{preset}:{scale}"] = Method(CONFIG, chunk_len, max_distance, scale, exact=exact)
    return methods


# ---- perplexity ----


@torch.no_grad()
def nll(model, targets, method):
    """Mean over all tokens of `targets [batch, n]`, each row read behind a BOS."""
    bos = torch.full_like(targets[:, :1], BOS)
    hidden = model(torch.cat((bos, targets[:, :-1]), dim=1), method)
    total = 0.0
    for part, wanted in zip(hidden.flatten(0, 1).split(8192), targets.flatten().split(8192)):
        total += F.cross_entropy(model.logits(part).float(), wanted, reduction="sum").item()
    return total / targets.numel()


def stretches_of(books, count):
    """Spread over each book."""
    for book in books:
        for s in range(1, count + 1):
            at = (len(book) - STRETCH) * s // (count + 1)
            yield torch.tensor(book[at : at + STRETCH], device="cuda")


def perplexities(model, stretches, names):
    table = {name: {} for name in names}
    for length in LENGTHS:
        methods = methods_for(length)
        for name in names:
            each = [nll(model, stretch.view(-1, length), methods[name]) for stretch in stretches]
            table[name][length] = round(math.exp(sum(each) / len(each)), 3)
        print(f"perplexity {length:6d}  " + "  ".join(f"{n} {table[n][length]:.2f}" for n in names), flush=True)
    return table


# ---- passkey ----


class Prompts:
    def __init__(self, tokenizer, books, seed):
        self.tokenizer, self.books, self.seed = tokenizer, books, seed
        tokens = (tokenizer.id_to_token(id) for id in range(tokenizer.get_vocab_size()))
        self.begins_word = [token.startswith(("Ġ", "Ċ")) for token in tokens]

    def text(self, length, filler, sample, n_samples):
        """Prompt that fits `length` tokens with BOS and answer, and its key. Depths: the middles of n equal parts."""
        rng = random.Random(f"{self.seed} {length} {filler} {sample}")
        key = str(rng.randint(10_000, 99_999))
        needle = NEEDLE.format(v=key)
        depth = (sample + 0.5) / n_samples
        fixed = self.count(GAP.join([HEAD, needle, QUESTION])) + 2 * self.count(GAP) + 8
        room = length - fixed - 6  # the answer is six tokens
        if filler == "repeated":
            n = room // self.count(" " + REPEATED)
            before = round(depth * n)
            fillers = [" ".join([REPEATED] * before), " ".join([REPEATED] * (n - before))]
        else:
            book = self.books[sample % len(self.books)]
            at = self.word_at(book, rng.randrange(len(book) - room - 100))
            cut, end = self.word_at(book, at + round(depth * room)), self.word_at(book, at + room - 4)
            fillers = [self.tokenizer.decode(book[a:b]).strip() for a, b in ((at, cut), (cut, end))]
        return GAP.join(part for part in (HEAD, fillers[0], needle, fillers[1], QUESTION) if part), key

    def count(self, text):
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def word_at(self, book, at):
        while not self.begins_word[book[at]]:
            at -= 1
        return at

    def ids(self, length, filler, sample, n_samples):
        text, key = self.text(length, filler, sample, n_samples)
        prompt = self.tokenizer.encode(text).ids
        answer = self.tokenizer.encode(f" {key}", add_special_tokens=False).ids
        assert len(answer) == 6 and length - 60 <= len(prompt) + len(answer) <= length, (length, len(prompt))
        return prompt, answer


@torch.no_grad()
def is_found(model, prompt, answer, method):
    """Greedy decoding gives the answer exactly if every token of it is the likeliest behind those before it."""
    ids = torch.tensor([prompt + answer], device="cuda")
    hidden = model(ids[:, :-1], method)[0, -len(answer) :]
    return bool((model.logits(hidden).argmax(-1) == ids[0, -len(answer) :]).all())


def passkeys(model, prompts, names, filler, n_samples):
    table = {name: {} for name in names}
    for length in LENGTHS:
        methods = methods_for(length)
        found = dict.fromkeys(names, 0)
        for sample in range(n_samples):
            prompt, answer = prompts.ids(length, filler, sample, n_samples)
            for name in names:
                found[name] += is_found(model, prompt, answer, methods[name])
        for name in names:
            table[name][length] = found[name] / n_samples
        print(f"passkey {filler} {length:6d}  " + "  ".join(f"{n} {table[n][length]:.3f}" for n in names), flush=True)
    return table


# ---- all of it ----


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--books", type=Path, required=True, help="a folder of .txt files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=40, help="passkeys a cell")
    parser.add_argument("--stretches", type=int, default=1, help="of each book, for perplexity")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    names = args.methods or list(methods_for(C))
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    model = load_model(args.model).cuda()
    paths = sorted(args.books.glob("*.txt"))
    texts = [path.read_text(encoding="utf8").strip() for path in paths]
    books = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]

    results = {"samples": args.samples, "books": [path.stem for path in paths], "stretches": args.stretches}
    # Figures to hold another engine against: a book's first 4,096 tokens, BOS among them, in float32 throughout.
    first = next(i for i, path in enumerate(paths) if "dracula" in path.stem)
    opening = torch.tensor([books[first][:4095]], device="cuda")
    for kind, exact in (("dracula_4096", True), ("dracula_4096_fast", False)):
        methods = methods_for(4096, exact)
        results[kind] = {name: math.exp(nll(model, opening, methods[name])) for name in methods}
        print(kind, {name: round(value, 3) for name, value in results[kind].items()})
    torch.set_float32_matmul_precision("high")

    def save(**more):
        results.update(more)
        args.out.write_text(json.dumps(results, indent=1))

    prompts = Prompts(tokenizer, books, args.seed)
    for part in args.parts:
        if part == "perplexity":
            save(perplexity=perplexities(model, list(stretches_of(books, args.stretches)), names))
        else:
            filler = part.removeprefix("passkey_")
            save(**{part: passkeys(model, prompts, names, filler, args.samples)})


if __name__ == "__main__":
    main()
