"""RoPE frequencies of real and made-up scaling rules, and blocks of every GGUF tensor type with their values."""
import base64
import copy
import re

import gguf
import numpy as np
from gguf import GGMLQuantizationType as QuantType
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import models


def encode(values, dtype="<f4"):
    """Base64 of little-endian numbers."""
    return base64.b64encode(np.asarray(values).astype(dtype).tobytes()).decode()


def scaled(config, scaling):
    """A copy of a transformers config under a rule in camelCase (`ropeType`, `factor`, ...), or under none."""
    config = copy.deepcopy(config)
    if scaling and scaling["ropeType"] == "ntk":
        # transformers has no such rule; it is a larger base.
        dim = models.head_dim(config)
        config.rope_theta *= scaling["factor"] ** (dim / (dim - 2))
    elif scaling:
        config.rope_scaling = {re.sub("[A-Z]", lambda c: "_" + c[0].lower(), k): v for k, v in scaling.items()}
    return config


def rope(config, longest):
    """transformers' inverse frequencies `[head_dim / 2]` and attention factor for a text of `longest` tokens."""
    scaling = getattr(config, "rope_scaling", None)  # Mistral's config has no such field of its own
    rule = scaling["rope_type"] if scaling else "default"
    return ROPE_INIT_FUNCTIONS[rule](config, "cpu", seq_len=longest)


# name: (head_dim, rope_theta, max_position_embeddings, scaling, longest)
ROPE_CASES = {
    "default, Llama 2": (128, 1e4, 4096, None, 4096),
    "default, head of 24": (24, 5e4, 32, None, 170),
    "linear, Llama 2 PI to 32k": (128, 1e4, 32768, dict(ropeType="linear", factor=8.0), 32768),
    "linear, small": (16, 1e4, 32, dict(ropeType="linear", factor=2.5), 170),
    "ntk, Llama 2": (128, 1e4, 4096, dict(ropeType="ntk", factor=8.0), 32768),
    "ntk, small": (16, 1e4, 32, dict(ropeType="ntk", factor=4.0), 170),
    "dynamic, Llama 2 within its window": (128, 1e4, 4096, dict(ropeType="dynamic", factor=2.0), 1000),
    "dynamic, Llama 2 at 4 windows": (128, 1e4, 4096, dict(ropeType="dynamic", factor=2.0), 16384),
    "dynamic, small": (24, 1e6, 32, dict(ropeType="dynamic", factor=4.0), 170),
    "yarn, Qwen2.5": (
        128, 1e6, 131072, dict(ropeType="yarn", factor=4.0, originalMaxPositionEmbeddings=32768), 131072,
    ),
    "yarn, own betas and attention factor": (
        64, 1e4, 16384,
        dict(
            ropeType="yarn", factor=8.0, originalMaxPositionEmbeddings=2048, attentionFactor=1.25, betaFast=16.0,
            betaSlow=2.0,
        ),
        16384,
    ),
    "yarn, small": (16, 1e4, 128, dict(ropeType="yarn", factor=4.0, originalMaxPositionEmbeddings=32), 128),
    "llama3, Llama 3.1 8B": (
        128, 5e5, 131072,
        dict(
            ropeType="llama3", factor=8.0, lowFreqFactor=1.0, highFreqFactor=4.0, originalMaxPositionEmbeddings=8192,
        ),
        131072,
    ),
    "llama3, Llama 3.2 1B": (
        64, 5e5, 131072,
        dict(
            ropeType="llama3", factor=32.0, lowFreqFactor=1.0, highFreqFactor=4.0, originalMaxPositionEmbeddings=8192,
        ),
        131072,
    ),
}  # fmt: skip


def rope_table():
    """One record for each of ROPE_CASES; to be called where float32 is float64."""
    table = []
    for name, (dim, theta, window, scaling, longest) in ROPE_CASES.items():
        config = LlamaConfig(
            hidden_size=dim, num_attention_heads=1, head_dim=dim, rope_theta=theta, max_position_embeddings=window
        )
        inv_freq, attention_factor = rope(scaled(config, scaling), longest)
        table.append(
            dict(
                name=name,
                config=dict(headDim=dim, ropeTheta=theta, maxPositionEmbeddings=window, ropeScaling=scaling),
                longest=longest,
                invFreq=inv_freq.tolist(),
                attentionFactor=attention_factor,
            )
        )
    return table


ROWS, COLS = 2, 512  # weights of each type
FLOATS_OF_16 = [QuantType.F16, QuantType.BF16]
BLOCKS_OF_32 = [QuantType.Q4_0, QuantType.Q4_1, QuantType.Q5_0, QuantType.Q5_1, QuantType.Q8_0]
# Where the float16 scales of a block of 256 lie, in bytes.
BLOCKS_OF_256 = {QuantType.Q4_K: (0, 2), QuantType.Q5_K: (0, 2), QuantType.Q6_K: (208,)}


def float_rows(kind, random):
    """Rows of F16 or BF16 as bytes: every exponent, both signs, zeros, subnormals and the largest numbers."""
    bits = random.integers(0, 2**16, ROWS * COLS, dtype=np.uint16)
    infinite = 0x7C00 if kind == QuantType.F16 else 0x7F80
    bits[bits & infinite == infinite] ^= 0x4000  # no infinities, no NaN
    bits[:8] = [0, 0x8000, 1, 0x8001, infinite >> 5, infinite - 1, (infinite - 1) | 0x8000, infinite >> 1]
    return bits.view(np.uint8).reshape(ROWS, -1)


def rows_of_32(kind, random):
    """Rows of a block-of-32 type as bytes: quantised normal weights, with odd blocks in the first row."""
    weights = random.standard_normal((ROWS, COLS)).astype(np.float32)
    odd = weights[0].reshape(-1, 32)
    odd[1] = 0
    odd[2] = -0.75
    odd[3] *= 1e4
    odd[4] *= 3e-5  # its scale is subnormal in float16
    odd[5, 7] = 100
    odd[6] = -np.abs(odd[6])
    data = gguf.quantize(weights, kind)
    blocks = data[1].reshape(COLS // 32, -1)
    blocks[1:4, -16:] = random.integers(0, 256, (3, 16))  # any quant, e.g. Q8_0's -128, which no quantiser writes
    blocks[2, 1] ^= 0x80  # sign of the scale
    return data


def rows_of_256(kind, random):
    """Rows of a K type as bytes: random quants under scales that are usual, negative, subnormal and zero or large."""
    block_bytes = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = random.integers(0, 256, (ROWS * COLS // 256, block_bytes), dtype=np.uint8)
    scales = np.array([[0.0123, 0.0456], [-0.0123, -0.0456], [3e-6, 6e-8], [60.0, 0.0]], np.float16)
    for at, column in zip(BLOCKS_OF_256[kind], scales.T):
        blocks[:, at : at + 2] = column[:, None].view(np.uint8)
    return blocks.reshape(ROWS, -1)


def quant_table():
    """For every tensor type, ROWS rows of COLS weights as stored bytes and as float32 values."""
    random = np.random.default_rng(0)
    table = []
    for makers, make in [(FLOATS_OF_16, float_rows), (BLOCKS_OF_32, rows_of_32), (BLOCKS_OF_256, rows_of_256)]:
        for kind in makers:
            data = make(kind, random)
            values = gguf.dequantize(data, kind)
            assert values.shape == (ROWS, COLS) and np.isfinite(values).all()
            table.append(
                dict(type=kind.name, rows=ROWS, cols=COLS, bytes=encode(data, np.uint8), values=encode(values))
            )
    return table
