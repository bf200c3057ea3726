"""Training data: books as token ids, and retrieval samples one window long.

    python data.py tokens --corpus train.txt.xz --out build  # tokenizer.json, books.npy, words.json
    python data.py retrieval --out build --count 150000     # retrieval.npz

A window holds 1,024 inputs and 1,024 targets, 1,025 ids, the first of which is always `<|endoftext|>`: a place for
attention to rest on that is at the same key position, 0, however long the text is.
"""

import argparse
import collections
import json
import lzma
import multiprocessing
import random
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WINDOW = 1024
VOCAB = 8192
BOS, BOS_TOKEN = 0, "<|endoftext|>"  # also ends a book and an answer

# The passkey task as it is evaluated: HEAD, filler, NEEDLE, filler, QUESTION, with an empty line between them.
HEAD = "There is a pass key hidden in the text below. Find it and remember it."
NEEDLE = "The pass key is {v}. Remember it. {v} is the pass key."
QUESTION = "What is the pass key? The pass key is"
REPEATED = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
GAP = "\n\n"

# Weight of a token in the loss. An answer is some six of a thousand tokens, and the only ones that test retrieval.
ANSWER_WEIGHT = 8


# ---- books ----


def read_books(path):
    opener = lzma.open if str(path).endswith(".xz") else open
    with opener(path, "rt", encoding="utf8") as file:
        return [book.strip() for book in file.read().split("\0")]


def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    # A digit is a token: " 12345" is a space and five digits, whatever the number.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[BOS_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A", special_tokens=[(BOS_TOKEN, BOS)]
    )
    return tokenizer


def write_tokens(corpus, out, first):
    books = read_books(corpus)[:first]
    path = out / "tokenizer.json"
    if not path.exists():
        train_tokenizer(books).save(str(path))
    tokenizer = Tokenizer.from_file(str(path))
    parts = []
    for first in range(0, len(books), 64):
        for encoding in tokenizer.encode_batch_fast(books[first : first + 64], add_special_tokens=False):
            parts.append(np.array([*encoding.ids, BOS], dtype=np.uint16))
    ids = np.concatenate(parts)
    np.save(out / "books.npy", ids)
    counts = collections.Counter(word for book in books[::5] for word in re.findall(r"\b[a-z]{4,9}\b", book))
    (out / "words.json").write_text(json.dumps([word for word, _ in counts.most_common(6000)]))
    print(f"{len(books)} books, {len(ids):,} tokens")


# ---- retrieval samples: what they are made of ----

NAMES = (
    "pass key|password|secret number|access code|magic number|secret code|key|door code|safe combination|code word"
    "|secret word|watchword|special number|serial number|account number|ticket number|hidden value|answer"
).split("|")
NEEDLES = (
    "The {n} is {v}. Remember it. {v} is the {n}.|The {n} is {v}.|The {n} is {v}. Remember it.|{v} is the {n}."
    "|Remember this: the {n} is {v}.|Do not forget that the {n} is {v}.|Please note that the {n} is {v}."
    '|"The {n}," he said, "is {v}."|They told me that the {n} was {v}.|Important: {n} = {v}.|{n}: {v}.'
    "|Here is the {n}: {v}. Keep it safe."
).split("|")
QUESTIONS = (
    "What is the {n}? The {n} is|What is the {n}? It is|Tell me the {n}. The {n} is|The {n} is"
    "|Question: What is the {n}?\nAnswer:|Which {n} was given in the text? The {n} was|I remember the {n}. The {n} is"
    "|Now write down the {n}:|{n}:|{n} ="
).split("|")
HEADS = (
    "There is a {n} hidden in the text below. Find it and remember it.|Read the text and remember the {n}."
    "|Somewhere in this text is the {n}. You will be asked for it."
    "|There is an important fact hidden inside a lot of irrelevant text. Find it."
).split("|")
PEOPLE = (
    "Alice|Arthur|Beatrice|Charles|Clara|Daniel|David|Dorothy|Edward|Eleanor|Emma|Florence|Frank|George|Grace|Harold"
    "|Helen|Henry|Isabel|Jack|James|Jane|John|Julia|Laura|Lucy|Margaret|Martha|Mary|Oliver|Paul|Peter|Philip|Robert"
    "|Rose|Ruth|Samuel|Sarah|Thomas|Walter|William|Mr. Brown|Mrs. Gray|Captain White|Doctor Black|Lady Green"
).split("|")
PLACES = (
    "London|Paris|Rome|Berlin|Vienna|Madrid|Lisbon|Dublin|Edinburgh|Boston|Chicago|New York|Cairo|Athens|Calcutta"
    "|Canton"
).split("|")
COLOURS = "red|blue|green|yellow|white|black|brown|golden|silver|grey|purple|old|new|large|small|broken".split("|")
THINGS = (
    "door|box|house|ship|book|chest|gate|room|train|carriage|horse|letter|tower|bridge|garden|boat|lamp|cup"
).split("|")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Maker:
    """Draws samples. Text becomes ids piece by piece, which gives the ids of the whole as no piece ends in a space."""

    def __init__(self, tokenizer, books, words, seed):
        self.tokenizer, self.books, self.words = tokenizer, books, words
        self.rng = random.Random(seed)

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    # -- values --

    def number(self, length=5):
        return "".join(self.rng.choice("0123456789") for _ in range(length))

    def value(self):
        rng, kind = self.rng, self.rng.random()
        if kind < 0.4:
            return self.number()
        if kind < 0.65:
            return self.number(rng.randint(2, 9))
        if kind < 0.9:
            return " ".join(rng.choice(self.words) for _ in range(rng.randint(1, 3)))
        return "".join(rng.choice(LETTERS + "0123456789") for _ in range(rng.randint(4, 7)))

    def holder(self):
        kind = self.rng.random()
        if kind < 0.35:
            return self.rng.choice(PEOPLE)
        if kind < 0.5:
            return self.rng.choice(PLACES)
        return f"the {self.rng.choice(COLOURS)} {self.rng.choice(THINGS)}"

    # -- fillers: a function from a length to so many ids --

    def book(self, length):
        at = self.rng.randrange(len(self.books) - length - 1)
        return self.books[at : at + length].tolist()

    def repeat(self, unit):
        shift = self.rng.randrange(len(unit)) if self.rng.random() < 0.3 else 0
        return lambda length: ((unit * (length // len(unit) + 2))[shift:])[:length]

    def noise(self, length):
        rng, pieces = self.rng, []
        kind = rng.random()
        while len(pieces) < length:
            if kind < 0.4:
                pieces += self.ids(" " + " ".join(rng.choice(self.words) for _ in range(40)))
            elif kind < 0.7:
                pieces += self.ids(f"\n{rng.choice(self.words)} {self.number(rng.randint(1, 7))}")
            else:  # prose with numbers in it, so that a digit alone gives nothing away
                pieces += self.book(rng.randint(10, 60))
                thing = f"{rng.choice(COLOURS)} {rng.choice(THINGS)}"
                pieces += self.ids(f" The {thing} was worth {self.number(rng.randint(2, 6))}.")
        return pieces[:length]

    def filler(self):
        kind = self.rng.random()
        if kind < 0.5:
            return self.book
        if kind < 0.7:
            return self.repeat(self.ids(" " + REPEATED))
        if kind < 0.82:
            return self.repeat(self.book(self.rng.randint(8, 80)))
        return self.noise

    # -- samples: lists of (ids, weight), with None where filler goes --

    def pieces_of(self, before, value, after, weight):
        """A text with a value in it, which alone carries the weight; the value's first mention cannot be foreseen."""
        if before.endswith(" "):  # a space begins the word after it
            before, value = before[:-1], f" {value}"
        whole, start, end = (self.ids(text) for text in (before + value + after, before, before + value))
        n, m = len(start), len(end)
        if whole[:n] != start or whole[:m] != end:  # a merge crosses a border: rare
            return [(whole, 1)]
        return [(start, 1), (end[n:], weight), (whole[m:], 1)]

    def ask(self, sep, question, value):
        """The weight also lies on the full stop, which says that the value is complete."""
        return self.pieces_of(sep + question, f" {value}.", "", ANSWER_WEIGHT)

    def canonical(self):
        value = self.number()
        needle = NEEDLE.format(v=value)
        return [
            (self.ids(HEAD), 1),
            None,
            (self.ids(GAP + needle), 1),
            None,
            *self.ask(GAP, QUESTION, value),
        ]

    def single(self):
        rng = self.rng
        name, value, sep = rng.choice(NAMES), self.value(), self.separator()
        parts = [(self.ids(rng.choice(HEADS).format(n=name)), 1)] if rng.random() < 0.5 else []
        needle = rng.choice(NEEDLES).format(n=name, v=value)
        return [
            *parts,
            None,
            (self.ids(sep + needle), 1),
            None,
            *self.ask(self.separator(), rng.choice(QUESTIONS).format(n=name), value),
        ]

    def several(self):
        """Many needles alike but for their holder; some are asked for, in any order, at the end or on the way."""
        rng = self.rng
        name, sep, value = rng.choice(NAMES), self.separator(), self.value
        if rng.random() < 0.5:
            value = self.number
        holders = list(dict.fromkeys(self.holder() for _ in range(rng.randint(2, 10))))
        needle, question = rng.choice(NEEDLES), rng.choice(QUESTIONS)
        parts, known = [], []
        for holder in holders:
            fact = (f"{name} of {holder}", value())
            parts += [None, (self.ids(sep + needle.format(n=fact[0], v=fact[1])), 1)]
            known.append(fact)
            if rng.random() < 0.2:
                asked = rng.choice(known)
                parts += [None, *self.ask(sep, question.format(n=asked[0]), asked[1])]
        parts.append(None)
        for name_asked, value_asked in rng.sample(known, rng.randint(1, min(len(known), 5))):
            parts += self.ask(sep, question.format(n=name_asked), value_asked)
        return parts

    def table(self):
        """Lines of key and value, close together or far apart, then some keys again."""
        rng = self.rng
        form = rng.choice(
            ["{k} = {v}", "{k}: {v}", '"{k}": "{v}"', "line {k}: the value is {v}", "The number of {k} is {v}"]
        )
        key = rng.choice(
            [
                lambda: rng.choice(self.words),
                lambda: f"{rng.choice(self.words)} {rng.choice(self.words)}",
                lambda: self.number(rng.choice([3, 4])),
                lambda: rng.choice(PEOPLE) + " " + rng.choice(LETTERS).upper(),
            ]
        )
        n = rng.randint(4, 28)
        value = rng.choice([self.number, lambda: self.number(3), lambda: rng.choice(self.words)])
        rows = list({key(): value() for _ in range(n)}.items())
        gap = rng.random() < 0.5
        parts = [None]
        for k, v in rows:
            parts += [(self.ids("\n" + form.format(k=k, v=v)), 1)] + ([None] if gap else [])
        parts.append(None)
        before, after = form.split("{v}")
        for k, v in rng.sample(rows, rng.randint(1, min(len(rows), 6))):
            parts += self.pieces_of("\n" + before.format(k=k), v, after, ANSWER_WEIGHT)
        return parts

    def copy(self):
        """A passage that comes again word for word."""
        passage = self.book(self.rng.randint(24, 120))
        lead = self.rng.randint(4, 12)
        return [None, (passage, 1), None, (passage[:lead], 1), (passage[lead:], ANSWER_WEIGHT / 4)]

    def separator(self):
        return self.rng.choice([GAP, GAP, "\n", " "])

    def sample(self):
        """Ids `[1025]` and the weights of the last 1,024 of them."""
        rng = self.rng
        kind = rng.choices(
            [self.canonical, self.single, self.several, self.table, self.copy], weights=[30, 25, 20, 15, 10]
        )[0]
        filler, parts = self.filler(), kind()
        fixed = sum(len(part[0]) for part in parts if part) + 2  # with the tokens that begin and end it
        # One in four is shorter than the window, and the rest of the window goes on with a book.
        goal = WINDOW + 1 if rng.random() < 0.75 else rng.randint(min(fixed + 8, WINDOW), WINDOW + 1)
        room = max(goal - fixed, 0)
        # Cuts drawn evenly: every depth is as likely as any other. One needle in five comes early all the same, since
        # few other tokens of a window look back nearly as far as it is long, and DCA uses those distances most.
        n_slots = sum(part is None for part in parts)
        reach = room // 6 if n_slots == 2 and rng.random() < 0.2 else room
        cuts = [0, *sorted(rng.randint(0, reach) for _ in range(n_slots - 1)), room]
        lengths = iter(b - a for a, b in zip(cuts, cuts[1:]))
        gap = self.ids("\n\n.")[:-1] if kind in (self.canonical, self.single) else []
        ids, weights = [BOS], [1]
        for part in parts:
            if part is None:
                length = next(lengths)
                lead = gap[: max(0, length)] if len(ids) > 1 else []
                piece, weight = lead + filler(max(0, length - len(lead))), 1
            else:
                piece, weight = part
            ids += piece
            weights += [weight] * len(piece)
        ids, weights = [*ids, BOS], [*weights, 1]
        rest = WINDOW + 1 - len(ids)
        if rest > 0:
            ids, weights = ids + self.book(rest), weights + [1] * rest
        # A sample too long for the window loses its beginning, never its question.
        ids, weights = [BOS, *ids[-WINDOW:]], weights[-WINDOW:]
        return ids, weights


def make_block(args):
    out, seed, count = args
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    words = json.loads((out / "words.json").read_text())
    maker = Maker(tokenizer, np.load(out / "books.npy", mmap_mode="r"), words, seed)
    samples = [maker.sample() for _ in range(count)]
    ids, weights = zip(*samples)
    return np.array(ids, dtype=np.uint16), np.array(weights, dtype=np.uint8)


def write_retrieval(out, count, seed, block=500):
    jobs = [(out, seed * 1_000_003 + i, block) for i in range(-(-count // block))]
    with multiprocessing.Pool() as pool:
        ids, weights = zip(*pool.imap(make_block, jobs))
    np.savez(out / "retrieval.npz", ids=np.concatenate(ids), weights=np.concatenate(weights))
    print(f"{len(jobs) * block:,} retrieval samples")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["tokens", "retrieval"])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--first", type=int, help="only so many books; the tokenizer in --out is kept if there is one")
    parser.add_argument("--count", type=int, default=150_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "tokens":
        write_tokens(args.corpus, args.out, args.first)
    else:
        write_retrieval(args.out, args.count, args.seed)


if __name__ == "__main__":
    main()
