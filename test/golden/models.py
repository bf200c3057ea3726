"""
Tiny checkpoints of random weights: each a Hugging Face folder and a GGUF file of the same numbers, in the layout
that llama.cpp's `convert_hf_to_gguf.py` writes.
"""
import json
import shutil
from dataclasses import dataclass

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as QuantType
from gguf import LlamaFileType, TokenType
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

import vocab

WINDOW = 32  # max_position_embeddings of every model: the trained window `c`

# Standard deviation of each weight. They make attention sharp, so that logits hang on positions, and keep the
# residual stream about 1 long, so that no layer drowns the others.
STD = {
    "embed_tokens": 0.25,
    "q_proj": 0.2,
    "k_proj": 0.2,
    "v_proj": 0.15,
    "o_proj": 0.2,
    "gate_proj": 0.2,
    "up_proj": 0.15,
    "down_proj": 0.15,
    "lm_head": 0.3,
}
BIAS_STD = 0.5
NORM_MEAN = {"q_norm": 1.6, "k_norm": 1.6}  # all other norms 1
NORM_STD = 0.25
# Where embeddings are multiplied by a root and are the head too, a model would else say its last token again.
SCALED_EMBEDDING_STD, SCALED_EMBEDDING_NORM = 0.12, 3.0


@dataclass
class Spec:
    config: PretrainedConfig
    dtype: torch.dtype  # how the folder stores every tensor
    gguf_type: QuantType  # how the twin stores its matrices
    file_type: LlamaFileType
    gguf_arch: str
    seed: int
    max_shard_size: str = "1GB"


COMMON = dict(hidden_size=64, rms_norm_eps=1e-5, max_position_embeddings=WINDOW)

SPECS = {
    "llama": Spec(
        LlamaConfig(
            **COMMON, vocab_size=384, num_hidden_layers=2, intermediate_size=96, num_attention_heads=4,
            num_key_value_heads=4, rope_theta=10000.0, tie_word_embeddings=True,
        ),
        torch.float32, QuantType.F32, LlamaFileType.ALL_F32, "llama", seed=1,
    ),
    "mistral": Spec(
        MistralConfig(
            **COMMON, vocab_size=448, num_hidden_layers=2, intermediate_size=128, num_attention_heads=6,
            num_key_value_heads=2, head_dim=16, rope_theta=1000.0, tie_word_embeddings=False, sliding_window=None,
        ),
        torch.bfloat16, QuantType.BF16, LlamaFileType.MOSTLY_BF16, "llama", seed=2, max_shard_size="120KB",
    ),
    "qwen2": Spec(
        Qwen2Config(
            **COMMON, vocab_size=512, num_hidden_layers=3, intermediate_size=96, num_attention_heads=4,
            num_key_value_heads=1, rope_theta=1000000.0, tie_word_embeddings=True,
        ),
        torch.float16, QuantType.F16, LlamaFileType.MOSTLY_F16, "qwen2", seed=3,
    ),
    "qwen3": Spec(
        Qwen3Config(
            **COMMON, vocab_size=416, num_hidden_layers=2, intermediate_size=160, num_attention_heads=4,
            num_key_value_heads=2, head_dim=24, rope_theta=50000.0, tie_word_embeddings=False,
        ),
        torch.bfloat16, QuantType.BF16, LlamaFileType.MOSTLY_BF16, "qwen3", seed=4,
    ),
    "olmo2": Spec(
        Olmo2Config(
            **COMMON, vocab_size=384, num_hidden_layers=2, intermediate_size=96, num_attention_heads=4,
            num_key_value_heads=2, rope_theta=500000.0, tie_word_embeddings=False,
        ),
        torch.bfloat16, QuantType.BF16, LlamaFileType.MOSTLY_BF16, "olmo2", seed=5,
    ),
    # llama.cpp knows no other layers without RoPE than every fourth
    "smollm3": Spec(
        SmolLM3Config(
            **COMMON, vocab_size=384, num_hidden_layers=4, intermediate_size=64, num_attention_heads=4,
            num_key_value_heads=1, rope_theta=50000.0, tie_word_embeddings=True, no_rope_layer_interval=4,
            pad_token_id=None,
        ),
        torch.bfloat16, QuantType.BF16, LlamaFileType.MOSTLY_BF16, "smollm3", seed=6,
    ),
    # a window in all layers but the third; a GGUF file does not say of another scale of queries than the head's
    "gemma3_text": Spec(
        Gemma3TextConfig(
            **{**COMMON, "hidden_size": 48}, vocab_size=448, num_hidden_layers=5, intermediate_size=96,
            num_attention_heads=4, num_key_value_heads=2, head_dim=24, query_pre_attn_scalar=24, rope_theta=50000.0,
            rope_local_base_freq=100.0, sliding_window=16, sliding_window_pattern=3,
        ),
        torch.bfloat16, QuantType.BF16, LlamaFileType.MOSTLY_BF16, "gemma3", seed=7,
    ),
}  # fmt: skip


def head_dim(config):
    """Length of one attention head; Qwen2's config leaves it to be worked out."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def random_weights(model, seed):
    """Weights for every parameter of `model`, by Hugging Face name, float32."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in model.named_parameters():
        *_, module, kind = name.split(".")
        if "norm" in module:
            mean, std = NORM_MEAN.get(module, 1.0), NORM_STD
        else:
            mean, std = 0.0, BIAS_STD if kind == "bias" else STD[module]
        if model.config.model_type == "gemma3_text":
            mean = {"norm": SCALED_EMBEDDING_NORM}.get(module, mean) - ("norm" in module)  # kept is what is above 1
            std = {"embed_tokens": SCALED_EMBEDDING_STD}.get(module, std)
        weights[name] = mean + std * torch.randn(parameter.shape, generator=generator)
    return weights


def make_tokenizer(name, vocab_size):
    """The model's tokenizer, and its pieces' scores `[vocab_size]` where it has any."""
    if name == "llama":
        return vocab.llama(vocab_size), None
    if name == "mistral":
        return vocab.mistral(vocab_size)
    if name == "gemma3_text":
        return vocab.gemma(vocab_size)
    if name == "qwen2":
        return vocab.qwen(vocab_size, vocab.QWEN2_TEMPLATE), None
    if name in ("olmo2", "smollm3"):
        return vocab.gpt4(vocab_size), None
    thinking = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
    return vocab.qwen(vocab_size, vocab.QWEN3_TEMPLATE, thinking), None


def end_tokens(name, tokenizer):
    """Ids that end a text: one, or a list where the family's chat turns end otherwise than its documents."""
    extra = {
        "llama": "<|eot_id|>",
        "qwen2": "<|endoftext|>",
        "qwen3": "<|endoftext|>",
        "gemma3_text": "<end_of_turn>",
    }.get(name)
    eos = tokenizer.eos_token_id
    return [eos, tokenizer.convert_tokens_to_ids(extra)] if extra else eos


def write_checkpoint(name, folder):
    """Writes the Hugging Face folder and its GGUF twin."""
    spec = SPECS[name]
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer, scores = make_tokenizer(name, spec.config.vocab_size)
    tokenizer.save_pretrained(folder, save_jinja_files=False)

    spec.config.bos_token_id = tokenizer.bos_token_id
    spec.config.eos_token_id = end_tokens(name, tokenizer)
    model = AutoModelForCausalLM.from_config(spec.config)
    model.load_state_dict(random_weights(model, spec.seed), strict=False)  # a tied head is no parameter of its own
    model.to(spec.dtype).save_pretrained(folder, max_shard_size=spec.max_shard_size)

    write_gguf(name, folder, "model.gguf", spec.gguf_type, spec.file_type, scores)
    stored, twin = read_folder(folder), read_gguf(name, folder / "model.gguf")
    assert all(torch.equal(stored[tensor], twin[tensor]) for tensor in stored)


def read_folder(folder):
    """Every tensor of a folder's safetensors by Hugging Face name, as float32."""
    shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    return {name: tensor.float() for shard in shards for name, tensor in shard.items()}


def interleave(rows, heads):
    """Rows of a q or k projection `[heads * head_dim, cols]` from Hugging Face's order to the llama arch's in GGUF."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def deinterleave(rows, heads):
    """Undoes `interleave`."""
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def interleaved_heads(name, tensor):
    """Number of heads of a tensor whose rows the twin interleaves, else None."""
    spec = SPECS[name]
    if spec.gguf_arch not in ("llama", "smollm3"):
        return None
    if "q_proj" in tensor:
        return spec.config.num_attention_heads
    return spec.config.num_key_value_heads if "k_proj" in tensor else None


def added_in_gguf(name, tensor):
    """What the twin has added to a tensor."""
    return 1 if name == "gemma3_text" and tensor.endswith("norm.weight") else 0


def gguf_name(name, tensor):
    """GGUF's name of a Hugging Face tensor, e.g. `blk.0.attn_q.weight`."""
    spec = SPECS[name]
    arch = next(arch for arch, text in gguf.MODEL_ARCH_NAMES.items() if text == spec.gguf_arch)
    names = gguf.get_tensor_name_map(arch, spec.config.num_hidden_layers)
    return names.get_name(tensor, try_suffixes=(".weight", ".bias"))


def write_gguf(name, folder, file, matrix_type, file_type, scores=None):
    """Writes `folder/file` from the folder's tensors and tokenizer; vectors are F32, as llama.cpp has them."""
    spec = SPECS[name]
    writer = gguf.GGUFWriter(folder / file, spec.gguf_arch)
    add_config(writer, name, spec.config)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_vocabulary(writer, folder, spec.config.vocab_size, scores)
    for tensor, value in sorted(read_folder(folder).items()):
        rows = value.numpy() + np.float32(added_in_gguf(name, tensor))
        if heads := interleaved_heads(name, tensor):
            rows = interleave(rows, heads)
        kind = QuantType.F32 if rows.ndim == 1 else matrix_type
        writer.add_tensor(gguf_name(name, tensor), gguf.quantize(np.ascontiguousarray(rows), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_config(writer, name, config):
    """The model's shape and RoPE base as GGUF metadata."""
    writer.add_name(f"dualchunk golden {name}")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(head_dim(config))
    if head_dim(config) * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim(config))
        writer.add_value_length(head_dim(config))
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
        writer.add_rope_freq_base_swa(config.rope_local_base_freq)


def add_vocabulary(writer, folder, vocab_size, scores):
    """The tokenizer as GGUF metadata: `llama` (SentencePiece) where pieces have scores, else `gpt2` (byte level)."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in added.values()}
    tokens = sorted(ids, key=ids.get)
    assert len(tokens) == vocab_size

    def token_type(i):
        if scores and tokens[i] == "<unk>":
            return TokenType.UNKNOWN
        if i in added:
            return TokenType.CONTROL if added[i]["special"] else TokenType.USER_DEFINED
        is_byte = scores and tokens[i].startswith("<0x") and len(tokens[i]) == 6
        return TokenType.BYTE if is_byte else TokenType.NORMAL

    writer.add_tokenizer_model("llama" if scores else "gpt2")
    pre = {"llama": "llama-bpe", "olmo2": "dbrx", "smollm3": "smaug-bpe"}.get(writer.arch, "qwen2")
    writer.add_tokenizer_pre("default" if scores else pre)
    writer.add_token_list(tokens)
    if scores:
        writer.add_token_scores(scores)
        writer.add_add_space_prefix(writer.arch != "gemma3")
    writer.add_token_types([token_type(i) for i in range(vocab_size)])
    # Merges, special ids, whether to add BOS, and the chat template.
    gguf.SpecialVocab(folder, load_merges=not scores, n_vocab=vocab_size).add_to_gguf(writer)


def read_gguf(name, path):
    """Every tensor of a GGUF file by Hugging Face name, dequantised to float32, rows in Hugging Face's order."""
    hugging_face_name = {gguf_name(name, tensor): tensor for tensor in read_folder(path.parent)}
    weights = {}
    for entry in gguf.GGUFReader(path).tensors:
        tensor = hugging_face_name[entry.name]
        rows = gguf.dequantize(entry.data, entry.tensor_type)
        if heads := interleaved_heads(name, tensor):
            rows = deinterleave(rows, heads)
        weights[tensor] = torch.from_numpy(rows.copy()) - added_in_gguf(name, tensor)
    assert weights.keys() == set(hugging_face_name.values())
    return weights
