"""A small Llama, written to be read, and three ways to attend: plain RoPE, NTK-aware RoPE, Dual Chunk Attention.

Training takes `TrainedAttention`, evaluation `Method`. Which positions a query and a key have depends only on how many
chunks lie between them, so a chunk of queries attends three times: to itself, to the chunk before, to all earlier ones.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


@dataclass(frozen=True)
class Config:
    vocab_size: int = 8192
    hidden: int = 384
    intermediate: int = 1024
    n_layers: int = 8
    n_heads: int = 6
    n_kv_heads: int = 2
    head_dim: int = 64
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    trained_len: int = 1024


# ---- rotary position embedding ----


def rope_frequencies(config, ntk_factor=1.0):
    """NTK-aware: a larger base stretches the slowest pair by the factor and leaves the fastest as it was."""
    dim = config.head_dim
    base = config.rope_base * ntk_factor ** (dim / (dim - 2))
    return base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def rope_tables(n, frequencies, device):
    """Cosine and sine of every angle at positions 0 to n - 1, `[n, head_dim / 2]`."""
    angles = torch.arange(n, dtype=torch.float64, device=device)[:, None] * frequencies.to(device)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    """`x [..., n, head_dim]`; pair d is dimensions d and d + head_dim / 2."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


# ---- ways to attend: q [batch, n_heads, n, head_dim], k and v [batch, n_kv_heads, n, head_dim], not yet rotated ----


class TrainedAttention(nn.Module):
    """Plain causal attention within the trained window, with the angles kept."""

    def __init__(self, config):
        super().__init__()
        cos, sin = rope_tables(config.trained_len, rope_frequencies(config), "cpu")
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, q, k, v):
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


@dataclass(frozen=True)
class Method:
    """DCA, or plain attention, which is one infinite chunk. `scale` is a factor on the logits of query i."""

    config: Config = Config()
    chunk_len: float = math.inf
    max_distance: float = math.inf
    scale: str = "none"
    ntk_factor: float = 1.0
    exact: bool = False  # one softmax in the inputs' precision, instead of FlashAttention in float16 merged

    def logit_factor(self, i):
        beyond = ((i + 1) / self.config.trained_len).clamp(min=1.0)
        if self.scale == "yarn":
            return (1 + 0.1 * beyond.log()) ** 2
        if self.scale == "logn":
            return 1 + beyond.log() / math.log(self.config.trained_len)
        return torch.ones_like(beyond)

    def __call__(self, q, k, v):
        n, n_groups = q.shape[2], q.shape[1] // k.shape[1]
        is_plain = self.chunk_len == math.inf
        chunk_len = n if is_plain else int(self.chunk_len)
        n_positions = n if is_plain else int(self.max_distance) + 1
        cos, sin = rope_tables(n_positions, rope_frequencies(self.config, self.ntk_factor), q.device)

        def at(x, positions):
            turned = rotate(x, cos[positions], sin[positions])
            return turned if self.exact else turned.half()

        index = torch.arange(n, device=q.device)
        r = index % chunk_len
        q = q * self.logit_factor(index)[:, None]
        own = at(q, r)
        succ = at(q, (r + chunk_len).clamp(max=n_positions - 1))
        inter = at(q, torch.full_like(r, n_positions - 1))
        k = at(k, r).repeat_interleave(n_groups, dim=1)
        v = v.to(k.dtype).repeat_interleave(n_groups, dim=1)

        attend = attend_exactly if self.exact else attend_fast
        out = torch.empty_like(q)
        for a in range(0, n, chunk_len):
            b = min(a + chunk_len, n)
            before = max(0, a - chunk_len)
            # Queries, and the keys they see; the last span is the causal one.
            spans = [(inter, 0, before), (succ, before, a), (own, a, b)]
            out[:, :, a:b] = attend([(x[:, :, a:b], k[:, :, c:d], v[:, :, c:d]) for x, c, d in spans if c < d])
        return out


def attend_exactly(spans):
    """One softmax over all spans."""
    scores = [q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) for q, k, _ in spans]
    is_future = torch.ones_like(scores[-1][0, 0], dtype=torch.bool).triu(1)
    scores[-1] = scores[-1].masked_fill(is_future, -math.inf)
    return torch.cat(scores, dim=-1).softmax(dim=-1) @ torch.cat([v for _, _, v in spans], dim=2)


def attend_fast(spans):
    """FlashAttention for each span, merged by their logarithms of summed exponentials."""
    outs, sums = [], []
    for s, (q, k, v) in enumerate(spans):
        out, log_sum, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, s == len(spans) - 1)
        outs.append(out)
        sums.append(log_sum[..., : q.shape[2]])
    shares = torch.stack(sums).softmax(dim=0)[..., None]
    return (torch.stack(outs).float() * shares).sum(dim=0)


# ---- the model, with Hugging Face's names ----


class RMSNorm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden))
        self.eps = config.norm_eps

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj = linear(config.hidden, config.n_heads * config.head_dim)
        self.k_proj = linear(config.hidden, config.n_kv_heads * config.head_dim)
        self.v_proj = linear(config.hidden, config.n_kv_heads * config.head_dim)
        self.o_proj = linear(config.n_heads * config.head_dim, config.hidden)

    def forward(self, x, attend):
        batch, n, _ = x.shape
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(x).view(batch, n, -1, self.head_dim).transpose(1, 2) for project in projections)
        return self.o_proj(attend(q, k, v).transpose(1, 2).reshape(batch, n, -1))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = linear(config.hidden, config.intermediate)
        self.up_proj = linear(config.hidden, config.intermediate)
        self.down_proj = linear(config.intermediate, config.hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config)
        self.mlp = MLP(config)

    def forward(self, x, attend):
        x = x + self.self_attn(self.input_layernorm(x), attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, config=Config()):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # What is added to the residual stream starts smaller, one addition of 2 * n_layers.
                is_output = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layers) if is_output else 0.02)

    def forward(self, ids, attend):
        """Hidden states `[batch, n, hidden]`, normed."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, attend)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)  # tied


def load_model(path):
    model = Llama()
    model.load_state_dict({name.removeprefix("model."): t.float() for name, t in load_file(path).items()})
    return model.eval()
