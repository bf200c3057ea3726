"""Trains one small tokenizer per pre-tokenizer family and records the ids Python's `tokenizers` gives.

    python test/golden/tokenizers/make.py <folder of plain-text books>

Needs tokenizers==0.22.2, sentencepiece==0.2.3 and transformers==4.57.3 (for `generate_merges`). Each
`<family>.json` holds the tokenizer.json, the metadata llama.cpp's converter would write for the same vocabulary
(absent where llama.cpp has no equal), and cases of text and ids.
"""

import io
import json
import sys
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import generate_merges

HERE = Path(__file__).parent
VOCAB_SIZE = 900  # byte level: 256 bytes and their merges
SPM_VOCAB_SIZE = 600
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# llama.cpp's rule for files that name none; Falcon's, in effect.
DEFAULT = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)


def sequence(*parts):
    return pre_tokenizers.Sequence(list(parts))


# Training cuts only before a space that follows none, so that the vocabulary has tokens over every other boundary, and
# ids show where the family's own rule cuts.
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
COARSE = sequence(split(r"[\s\S]*?\S(?= )"), BYTES)
BYTE_LEVEL_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

# special = [bos, eos, turn start, turn end]; the first two may be equal
CHATML = ["<|endoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>"]
MISTRAL = ["<s>", "</s>", "[INST]", "[/INST]"]

BYTE_LEVEL = {
    "default": dict(pre=sequence(*map(split, DEFAULT), BYTES), special=CHATML),
    "gpt-2": dict(pre=BYTE_LEVEL_GPT2, special=CHATML),
    "llama-bpe": dict(pre=sequence(split(LLAMA3), BYTES), special=LLAMA3_SPECIAL, bos=True, ignore_merges=True),
    "qwen2": dict(pre=sequence(split(QWEN2), BYTES), special=CHATML, normalizer=normalizers.NFC()),
    "smollm": dict(pre=sequence(pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL_GPT2), special=CHATML),
    "tekken": dict(pre=sequence(split(TEKKEN), BYTES), special=MISTRAL, bos=True, ignore_merges=True),
}

TRICKY = [
    "",
    " ",
    "a",
    "  two leading, two trailing  ",
    "I'm sure they'll say it's what we've, you'd, they're and can't.",
    "I'M SURE THEY'LL SAY IT'S WHAT WE'VE, YOU'D, THEY'RE AND CAN'T. 'S'Tuff",
    "Mixed 'Ll 'rE 'vE and ’s curly",
    "0 12 345 6789 1234567890 3.14159 1,000,000 0x1F 2nd",
    "١٢٣ ४५६ Ⅷ ½ ² １２３ 一二三",
    "a  b   c    d     e",
    "   \t\t tabs\tand \t spaces \t",
    "one\ntwo\n\nthree\n\n\nfour\n",
    "\n\n  indented\n \n\t\n  after blank lines   \n",
    "CRLF\r\nline\r\n\r\nend\r",
    "trailing spaces   \nnext",
    "no-break\u00a0space, thin\u2009space, ideographic\u3000space, nel\u0085x, bom\ufeffy, zwsp\u200bz",
    ".\u0085.\u0085 \u0085! \ufeff.\ufeff\ufeff a\u0085\u0085a 1\ufeff1",
    "line\u2028separator\u2029paragraph",
    "café naïve Ångström — “quoted” … ‘x’",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "ﬁ ligature, ſ long s, it'ſ, İstanbul, STRASSE straße",
    "Ελληνικά Русский язык עברית العربيّة",
    "हिन्दी में क्षत्रिय ภาษาไทย தமிழ்",
    "日本語のテキスト、中文文本。한국어 텍스트",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ☃️ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠮷",
    "def f(x: int) -> str:\n    return f\"{x!r}\"  # comment\n\n\tif a==b and c!=d: pass\n",
    "<div class=\"a b\">&amp;</div> // path/to/file.ts /* c */ a+=b; x<<=2; $100 ~x^y|z `q`",
    "https://example.com/a?b=c&d=%20#frag user@mail.org",
    "camelCase PascalCase XMLHttpRequest snake_case SCREAMING_CASE ALLCAPS",
    "!!!???...---___***",
    "$$$ ### ((nested [brackets] {here}))",
    "\x00\x01\x1f\x7f control",
    "\ufffd\ufffe replacement",
    "▁literal▁metaspace▁ ▁",
    "<0x0A><0xFF> not a byte",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "The Project Gutenberg castle: Dracula was the Count, and the castle was his.",
    "3 May. Bistritz.--Left Munich at 8:35 P. M., on 1st May.",
]


def special_cases(special):
    bos, eos, start, end = special
    return [
        f"{start}user\nHello there{end}\n{start}assistant\n",
        f"{bos}text{eos}",
        f" {start} spaced {end} ",
        f"{end}{end}{end}",
        f"{start[:-1]} broken {end[1:]} <think>a</think>",
    ]


def corpus(folder):
    text = "".join(path.read_text(encoding="utf-8")[2000:60000] for path in sorted(folder.glob("*.txt"))[:3])
    return [*text.split("\n\n"), *[case for case in TRICKY for _ in range(20)]]


def cases_of(tokenizer, special):
    """`decoded` is left out where it equals the text, `literal` (specials as characters) where it equals `ids`."""
    cases = []
    for text in [*TRICKY, *special_cases(special)]:
        ids = tokenizer.encode(text).ids
        decoded = tokenizer.decode(ids)
        tokenizer.encode_special_tokens = True
        literal = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = False
        cases.append(
            dict(text=text, ids=ids)
            | ({} if decoded == text else dict(decoded=decoded))
            | ({} if literal == ids else dict(literal=literal))
        )
    return cases


def bos_template(tokenizer, bos):
    return processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])


def byte_level(texts, pre, special, normalizer=None, bos=False, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = COARSE
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer.pre_tokenizer = pre
    if ignore_merges:  # words no merge leads to, as in Llama 3's vocabulary
        parts = json.loads(tokenizer.to_str())
        for word in ["ĠDracula", "Ġcastle", "日本"]:
            parts["model"]["vocab"].setdefault(word, len(parts["model"]["vocab"]))
        tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in dict.fromkeys(special)])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=False), bos_template(tokenizer, special[0])]
        )
    return tokenizer


def byte_level_metadata(family, tokenizer, special):
    parts = json.loads(tokenizer.to_str())
    added = {token["id"]: token["special"] for token in parts["added_tokens"]}
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    types = [NORMAL if i not in added else CONTROL if added[i] else USER_DEFINED for i in range(len(tokens))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": family,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in parts["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": tokenizer.token_to_id(special[0]),
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id(special[1]),
    }


def train_spm(texts):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts for line in text.split("\n") if "\x00" not in line]),
        model_writer=model,
        model_type="bpe",
        vocab_size=SPM_VOCAB_SIZE,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.9999,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def spm(processor, prepend):
    """prepend: 'every' (legacy Llama), 'none', or 'first' (Metaspace, not legacy)"""
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    scores = {piece: processor.get_score(i) for piece, i in vocab.items()}
    merges = generate_merges(vocab, scores)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ["<unk>", "<s>", "</s>"]])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in MISTRAL[2:]])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    to_metaspace = [normalizers.Replace(" ", "▁")]
    if prepend == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        prefix = [normalizers.Prepend("▁")] if prepend == "every" else []
        tokenizer.normalizer = normalizers.Sequence(prefix + to_metaspace)
    strip = [] if prepend == "none" else [decoders.Strip(content=" ", left=1)]
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    tokenizer.post_processor = bos_template(tokenizer, "<s>")
    return tokenizer


def spm_metadata(processor, tokenizer, prepend):
    n_pieces = processor.get_piece_size()
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]

    def type_of(i):
        if i >= n_pieces:
            return USER_DEFINED if tokens[i] == "<think>" else CONTROL
        if processor.is_unknown(i):
            return UNKNOWN
        return CONTROL if processor.is_control(i) else BYTE if processor.is_byte(i) else NORMAL

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [processor.get_score(i) if i < n_pieces else -1000.0 for i in range(len(tokens))],
        "tokenizer.ggml.token_type": [type_of(i) for i in range(len(tokens))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **({} if prepend == "every" else {"tokenizer.ggml.add_space_prefix": False}),
    }


def write(family, tokenizer, special, metadata):
    tokenizer_json = json.loads(tokenizer.to_str())
    fixture = {
        "tokenizerJson": tokenizer_json,
        "tokenizerConfig": {"bos_token": special[0], "eos_token": special[1]},
        **({"gguf": metadata} if metadata else {}),
        "cases": cases_of(tokenizer, special),
    }
    lines = [
        f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for key, value in fixture.items()
    ]
    (HERE / f"{family}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(folder):
    texts = corpus(folder)
    for family, settings in BYTE_LEVEL.items():
        tokenizer = byte_level(texts, **settings)
        write(family, tokenizer, settings["special"], byte_level_metadata(family, tokenizer, settings["special"]))
    processor = train_spm(texts)
    for family, prepend in [("spm", "every"), ("spm-no-prefix", "none"), ("spm-metaspace", "first")]:
        tokenizer = spm(processor, prepend)
        metadata = None if prepend == "first" else spm_metadata(processor, tokenizer, prepend)
        write(family, tokenizer, MISTRAL, metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
