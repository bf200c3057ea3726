"""
Dual Chunk Attention from its per-pair definition (arXiv 2402.17463), in float64: every score is `q · R(distance) k`
with the distance looked up for that pair alone. Slow on purpose: it shares no idea with a fast implementation.
"""
import math
from functools import partial

import torch
import torch.nn.functional as F

UNSEEN = -1  # the distance of a pair whose query does not see the key


def paper(c):
    """The paper's setting for a model trained to read `c` tokens."""
    return dict(chunkLen=3 * c // 4, maxDistance=c - 1, parts="full", scale="none", trainedLen=c)


def chunkllama(c):
    """The default of the paper's public code: chunk_size 3c/4, local window c/8."""
    return dict(chunkLen=5 * c // 8, maxDistance=3 * c // 4, parts="full", scale="none", trainedLen=c)


def distance(i, j, method):
    """Relative position of key `j <= i` as query `i` sees it."""
    chunk_len, max_distance = method["chunkLen"], method["maxDistance"]
    r = i % chunk_len
    chunks_behind = i // chunk_len - j // chunk_len
    if chunks_behind == 0:
        query_position = r
    elif method["parts"] == "intra":
        return UNSEEN
    elif chunks_behind == 1 and method["parts"] == "full":
        query_position = min(r + chunk_len, max_distance)
    else:
        query_position = max_distance
    return query_position - j % chunk_len


def check_figure_2():
    """Rows 6 and 11 of the paper's figure 2: chunks of 6, no distance above 9."""
    figure_2 = dict(chunkLen=6, maxDistance=9, parts="full")
    assert [distance(6, j, figure_2) for j in range(7)] == [6, 5, 4, 3, 2, 1, 0]
    assert [distance(11, j, figure_2) for j in range(12)] == [9, 8, 7, 6, 5, 4, 5, 4, 3, 2, 1, 0]


def distances(n, method=None, sliding_window=None):
    """Distance of every pair, `[n, n]`, UNSEEN where the query does not see the key; no method is plain attention."""
    window = sliding_window or n
    table = torch.full((n, n), UNSEEN)
    for i in range(n):
        for j in range(max(0, i + 1 - window), i + 1):
            table[i, j] = i - j if method is None else distance(i, j, method)
    return table


def logit_factors(n, method=None):
    """Factor on the attention logits of each query, `[n, 1]`."""
    positions = torch.arange(1, n + 1, dtype=torch.float64)[:, None]
    scale, c = (method["scale"], method["trainedLen"]) if method else ("none", 1)
    if scale == "yarn":
        return (1 + 0.1 * torch.log(positions / c)).clamp(min=1) ** 2
    if scale == "logn":
        return (torch.log(positions) / math.log(c)).clamp(min=1)
    return torch.ones_like(positions)


def rms_norm(x, weight, eps):
    """Last axis of `x` brought to a root mean square of 1, times `weight`."""
    return weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


def attention(q, k, v, rope, table, factors):
    """
    q `[n, heads, head_dim]`, k and v `[n, kv_heads, head_dim]`, rope `(inv_freq [head_dim/2], attention factor)`,
    table `[n, n]`, factors `[n, 1]`; returns `[n, heads * head_dim]`.
    """
    n, heads, head_dim = q.shape
    k, v = (x.repeat_interleave(heads // k.shape[1], dim=1) for x in (k, v))
    inv_freq, attention_factor = rope
    # Dimensions d and d + head_dim/2 are one complex number; R(p) multiplies it by exp(i p inv_freq[d]).
    q, k = (torch.complex(*x.split(head_dim // 2, dim=-1)) for x in (q, k))
    rotation = torch.polar(torch.ones(1, dtype=torch.float64), table[:, :, None] * inv_freq)  # [n, n, head_dim/2]
    scores = torch.einsum("ihd,ijd,jhd->hij", q, rotation, k.conj()).real * attention_factor**2
    scores = scores * factors / math.sqrt(head_dim)
    weights = scores.masked_fill(table == UNSEEN, -math.inf).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, v).reshape(n, -1)


def has_rope(config, layer):
    """Whether a layer rotates queries and keys; SmolLM3 has some that do not."""
    return config.model_type != "smollm3" or config.no_rope_layers[layer] == 1


def forward(weights, config, tokens, rope, table, factors, local=None):
    """
    Logits `[n, vocab]` of any of the models; `weights` are float64 by Hugging Face name. `local` is the same as
    `(rope, table, factors)` for layers with a window of their own.
    """
    is_gemma = config.model_type == "gemma3_text"
    norms_before = config.model_type != "olmo2"
    norms_after = config.model_type in ("olmo2", "gemma3_text")
    activation = partial(F.gelu, approximate="tanh") if is_gemma else F.silu

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):
        return rms_norm(x, weights[f"{name}.weight"] + (1 if is_gemma else 0), config.rms_norm_eps)

    n = len(tokens)
    x = weights["model.embed_tokens.weight"][tokens]  # [n, hidden]
    if is_gemma:  # as in bfloat16, which it was trained in
        x = x * torch.tensor(config.hidden_size**0.5, dtype=torch.bfloat16)
    for layer in range(config.num_hidden_layers):
        block = f"model.layers.{layer}"
        h = norm(x, f"{block}.input_layernorm") if norms_before else x
        q, k, v = (linear(h, f"{block}.self_attn.{name}_proj") for name in "qkv")
        if config.model_type == "olmo2":  # over all heads at once
            q, k = norm(q, f"{block}.self_attn.q_norm"), norm(k, f"{block}.self_attn.k_norm")
        kv_heads = config.num_key_value_heads
        q, k, v = q.view(n, config.num_attention_heads, -1), k.view(n, kv_heads, -1), v.view(n, kv_heads, -1)
        if config.model_type in ("qwen3", "gemma3_text"):
            q, k = norm(q, f"{block}.self_attn.q_norm"), norm(k, f"{block}.self_attn.k_norm")
        is_local = local is not None and config.layer_types[layer] == "sliding_attention"
        turn, seen, scales = local if is_local else (rope, table, factors)
        if not has_rope(config, layer):
            turn = (torch.zeros_like(rope[0]), 1.0)
        if is_gemma:
            q = q * math.sqrt(q.shape[-1] / config.query_pre_attn_scalar)
        h = linear(attention(q, k, v, turn, seen, scales), f"{block}.self_attn.o_proj")
        x = x + (norm(h, f"{block}.post_attention_layernorm") if norms_after else h)
        second = "pre_feedforward" if is_gemma else "post_attention"
        h = norm(x, f"{block}.{second}_layernorm") if norms_before else x
        gate, up = linear(h, f"{block}.mlp.gate_proj"), linear(h, f"{block}.mlp.up_proj")
        h = linear(activation(gate) * up, f"{block}.mlp.down_proj")
        x = x + (norm(h, f"{block}.post_feedforward_layernorm") if norms_after else h)
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    return linear(norm(x, "model.norm"), head)
