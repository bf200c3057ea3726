"""Tokenizers of the families, trained on `text.txt`: real pre-tokenizers and special tokens, few merges."""
import io
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GemmaTokenizerFast, LlamaTokenizerFast, PreTrainedTokenizerFast, Qwen2TokenizerFast

TEXT = (Path(__file__).parent / "text.txt").read_text(encoding="utf-8")

# The two regular expressions differ in how many digits make a token: up to three in Llama 3, one in Qwen.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }}[/INST]"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported') }}{% endif %}{% endfor %}"
)
QWEN2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3_TEMPLATE = (
    "{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\n' }}\n"
    "    {%- if message.role == 'assistant' %}\n        {{- '<think>\n\n</think>\n\n' }}\n    {%- endif %}\n"
    "    {{- message.content + '<|im_end|>\n' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\n\n</think>\n\n' }}\n    {%- endif %}\n{%- endif %}"
)


GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ (first if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def byte_level_bpe(vocab_size, digits, special, ordinary=(), normalizer=None, ignore_merges=False):
    """Byte-level BPE; `special` and then `ordinary` added tokens take the last ids, as in Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    split = pre_tokenizers.Split(Regex(SPLIT.format(digits=digits)), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special) - len(ordinary),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in ordinary])
    assert tokenizer.get_vocab_size() == vocab_size
    return tokenizer


def llama(vocab_size):
    """Llama 3's tokenizer: its post-processor adds `<|begin_of_text|>`."""
    bos, eos = "<|begin_of_text|>", "<|end_of_text|>"
    special = [bos, eos, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = byte_level_bpe(vocab_size, "{1,3}", special, ignore_merges=True)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A",
                pair=f"{bos} $A {bos}:1 $B:1",
                special_tokens=[(bos, tokenizer.token_to_id(bos))],
            ),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, model_input_names=["input_ids", "attention_mask"]
    )
    fast.chat_template = LLAMA_TEMPLATE
    return fast


def qwen(vocab_size, template, ordinary=()):
    """Qwen's tokenizer: NFC, single digits, nothing added in front."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level_bpe(vocab_size, "", special, ordinary, normalizers.NFC())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        add_bos_token=False,
    )
    fast.chat_template = template
    return fast


def gpt4(vocab_size):
    """What OLMo 2 and SmolLM3 have: Llama 3's words, merges as ever, nothing added in front."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level_bpe(vocab_size, "{1,3}", special)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", model_input_names=["input_ids", "attention_mask"]
    )
    fast.chat_template = QWEN2_TEMPLATE
    return fast


def sentence_pieces(vocab_size, **options):
    """A SentencePiece BPE with byte fallback, serialised, and the score of every piece `[vocab_size]` for GGUF."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
        **options,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return model.getvalue(), [pieces.GetScore(i) for i in range(vocab_size)]


def mistral(vocab_size):
    """Mistral's tokenizer, and the scores of its pieces."""
    model, scores = sentence_pieces(vocab_size, control_symbols=["[INST]", "[/INST]"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(model)
        fast = LlamaTokenizerFast(vocab_file=str(path), add_bos_token=True, add_prefix_space=True, legacy=True)
    # Kept in the saved config it would ask for the SentencePiece file again; tokenizer.json has it by now.
    fast.init_kwargs.pop("add_prefix_space", None)
    fast.chat_template = MISTRAL_TEMPLATE
    return fast, scores


def gemma(vocab_size):
    """Gemma's tokenizer, which adds no space in front and has tokens of white space, and the scores of its pieces."""
    model, scores = sentence_pieces(
        vocab_size,
        **dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>"),
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\t"],
        add_dummy_prefix=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(model)
        fast = GemmaTokenizerFast(vocab_file=str(path))
    fast.chat_template = GEMMA_TEMPLATE
    return fast, scores


def tricky_texts(tokenizer):
    """Texts that part tokenizers from one another."""
    eos = tokenizer.eos_token
    return [
        "",
        " ",
        "Hello world",
        " leading space",
        "trailing space ",
        "two  three   four    spaces",
        "\ttab\t\ttabs \t mixed",
        "line\nline\n\nline\r\nline\n",
        "   \n  indented\n\n   ",
        "1 12 123 1234 12345 3.14 1,000,000 2024-05-01",
        "I'm you're we'll they'd I'VE DON'T 'tis o'clock",
        "HELLO hello HeLLo iPhone",
        "caf\u00e9 na\u00efve fa\u00e7ade",
        "cafe\u0301 nai\u0308ve fac\u0327ade",
        "\u212bngstr\u00f6m \u00c5 A\u030a \ufb01 \u00bd \u00b2 \u2167",
        "你好，世界。日本語のテキスト 한국어 \u1112\u1161\u11ab",
        "Привет, мир! Γειά σου. שלום العربية ٣٤",
        "😀👍🏽 👨\u200d👩\u200d👧 🇩🇪!",
        "def f(x):\n    return x ** 2  # square\n",
        "a<b && c>=d; x[0]->y != \"z\" /* ... */",
        "https://example.com/?q=1&r=two#three",
        f"one{eos}two {eos} three",
        "<|im_start|>user\nHi<|im_end|>\n<s>[INST] Hi [/INST]</s><|eot_id|>",
        "<think>\nso\n</think>\n\n done <|endoftext|>",
        "zero\u200bwidth no\u00a0break \u3000 wide \ufeff mark",
        "\u2581metaspace \u2581\u2581 \u0120 byte",
        "control\x07\x00\x7f and \ufffd",
        "!!!...???---***   ...",
        "We left in pretty good time, and came after nightfall to Klausenburgh.",
    ]


def conversations(name):
    """Messages for the chat template; Mistral's takes no system turn."""
    turns = [
        {"role": "user", "content": " Where is the Count? "},
        {"role": "assistant", "content": "In his castle, at 6:46."},
        {"role": "user", "content": "Merci, \u00e0 bient\u00f4t!\nBye."},
    ]
    system = {"role": "system", "content": "Answer in one line."}
    return [turns[:1], turns] + ([] if name == "mistral" else [[system, *turns]])
