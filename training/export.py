"""Writes GGUF files, as llama.cpp and dualchunk read them: weights in F16 or Q8_0, norms in F32.

    python export.py --model build/model.safetensors --tokenizer build/tokenizer.json --out build
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file

NAME = "books-16m"
N_LAYERS, N_HEADS, N_KV_HEADS, HEAD_DIM = 8, 6, 2, 64
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def interleaved(rows, n_heads):
    """GGUF's llama turns dimensions 2d and 2d + 1 of a head together, where the model turns d and d + 32."""
    return rows.reshape(n_heads, 2, HEAD_DIM // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def tensors_of(weights):
    yield "token_embd.weight", weights["model.embed_tokens.weight"]  # tied: there is no output.weight
    yield "output_norm.weight", weights["model.norm.weight"]
    for layer in range(N_LAYERS):
        for name, own in LAYER_NAMES.items():
            tensor = weights[f"model.layers.{layer}.{own}.weight"]
            if name in ("attn_q", "attn_k"):
                tensor = interleaved(tensor, N_HEADS if name == "attn_q" else N_KV_HEADS)
            yield f"blk.{layer}.{name}.weight", tensor


def add_tokenizer(writer, tokenizer):
    model = tokenizer["model"]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(True)


def write(path, weights, tokenizer, kind, file_type):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_description(
        "A small model of public-domain books, trained on windows of 1,024 tokens, for reading far beyond them."
    )
    writer.add_license("mit")
    writer.add_languages(["en"])
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(1024)
    writer.add_vocab_size(len(weights["model.embed_tokens.weight"]))
    writer.add_embedding_length(weights["model.embed_tokens.weight"].shape[1])
    writer.add_feed_forward_length(len(weights["model.layers.0.mlp.gate_proj.weight"]))
    writer.add_block_count(N_LAYERS)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, tokenizer)
    for name, tensor in tensors_of(weights):
        to = Type.F32 if tensor.ndim == 1 else kind
        data = gguf.quants.quantize(tensor.astype(np.float32), to)
        writer.add_tensor(name, data, raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path}: {path.stat().st_size:,} bytes")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    weights = load_file(args.model)
    tokenizer = json.loads(args.tokenizer.read_text(encoding="utf8"))
    write(args.out / f"{NAME}.F16.gguf", weights, tokenizer, Type.F16, gguf.LlamaFileType.MOSTLY_F16)
    write(args.out / f"{NAME}.Q8_0.gguf", weights, tokenizer, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0)


if __name__ == "__main__":
    main()
