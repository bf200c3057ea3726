"""What PyTorch reaches with the shapes of ../webgpu.bench.ts: a JSON object a line, {name, ms, work, unit}.

    python3 bench/peers/torchPeer.py LENGTH

Attention in three calls is how ChunkLlama computes Dual Chunk Attention: FlashAttention-2 for each part of each chunk,
joined by their log-sum-exp. The model is Hugging Face's Llama of 1.24 billion random weights, eager.
"""
import json
import statistics
import sys
import time

import torch

LENGTH = int(sys.argv[1]) if len(sys.argv) > 1 else 32768
CHUNK = 6144
DEVICE = "cuda"
flash = torch.ops.aten._scaled_dot_product_flash_attention


def say(name, ms, work=None, unit=None):
    print(json.dumps({"name": name, "ms": ms, "work": work, "unit": unit}), flush=True)


def median_ms(call, repeats=10):
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def parts_of(q_intra, q_succ, q_inter, k, v, start):
    """Attention of queries from `start` on, [1, heads, n, dim], to all keys, chunk by chunk."""
    outs = []
    end = start + q_intra.shape[2]
    for chunk in range(start // CHUNK, (end - 1) // CHUNK + 1):
        rows = slice(max(chunk * CHUNK, start) - start, min((chunk + 1) * CHUNK, end) - start)
        own = slice(chunk * CHUNK, start + rows.stop)
        is_causal = rows.stop - rows.start > 1
        found = [flash(q_intra[:, :, rows], k[:, :, own], v[:, :, own], is_causal=is_causal)[:2]]
        if chunk > 0:
            before = slice((chunk - 1) * CHUNK, chunk * CHUNK)
            found.append(flash(q_succ[:, :, rows], k[:, :, before], v[:, :, before])[:2])
        if chunk > 1:
            earlier = slice(0, (chunk - 1) * CHUNK)
            found.append(flash(q_inter[:, :, rows], k[:, :, earlier], v[:, :, earlier])[:2])
        lse = torch.stack([f[1] for f in found])
        weights = torch.softmax(lse, 0)[..., None].to(k.dtype)
        outs.append(sum(w * f[0] for w, f in zip(weights, found)))
    return torch.cat(outs, 2)


def attention(heads, dim):
    q, k, v = (torch.randn(1, heads, LENGTH, dim, device=DEVICE, dtype=torch.bfloat16) for _ in range(3))
    work = 4 * LENGTH * (LENGTH + 1) / 2 * heads * dim
    shape = f"attention {LENGTH}, {heads} heads of {dim}"
    say(f"{shape}, FlashAttention-2", median_ms(lambda: flash(q, k, v, is_causal=True)), work, "TFLOP/s")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        say(f"{shape}, cuDNN", median_ms(call), work, "TFLOP/s")
    say(f"{shape}, three calls", median_ms(lambda: parts_of(q, q, q, k, v, 0)), work, "TFLOP/s")


def decode_attention(heads, kv_heads, dim):
    q = torch.randn(1, heads, 1, dim, device=DEVICE, dtype=torch.bfloat16)
    k, v = (torch.randn(1, kv_heads, LENGTH, dim, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=heads != kv_heads)
    say(f"decode attention {LENGTH}, {heads}/{kv_heads} heads of {dim}", median_ms(call), 2 * k.numel() * 2, "GB/s")


def products():
    for n, rows, cols in [(4096, 4096, 4096), (2048, 8192, 2048)]:
        x = torch.randn(n, cols, device=DEVICE, dtype=torch.float16)
        w = torch.randn(rows, cols, device=DEVICE, dtype=torch.float16)
        say(f"matmul F16 {n} x {rows} x {cols}", median_ms(lambda: x @ w.T), 2 * n * rows * cols, "TFLOP/s")
    for rows, cols in [(8192, 2048), (2048, 2048), (128256, 2048)]:
        x = torch.randn(1, cols, device=DEVICE, dtype=torch.float16)
        ws = [torch.randn(rows, cols, device=DEVICE, dtype=torch.float16) for _ in range(8)]
        ms = median_ms(lambda: [x @ w.T for w in ws]) / 8
        say(f"matvec F16 1 x {rows} x {cols}", ms, 2 * rows * cols, "GB/s")


def turned(x, positions, inverse):
    angles = positions[:, None].float() * inverse
    cos, sin = (torch.cat([f(angles)] * 2, -1).to(x.dtype) for f in (torch.cos, torch.sin))
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def chunk_forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **_):
    """Llama's attention with positions of Dual Chunk Attention."""
    if past_key_values is None:
        past_key_values = _.get("past_key_value")
    n = hidden_states.shape[1]
    heads = lambda linear: linear(hidden_states).view(1, n, -1, self.head_dim).transpose(1, 2)
    q, k, v = heads(self.q_proj), heads(self.k_proj), heads(self.v_proj)
    start = past_key_values.get_seq_length(self.layer_idx)
    at = torch.arange(start, start + n, device=DEVICE)
    inverse = 500000.0 ** (-torch.arange(0, self.head_dim, 2, device=DEVICE).float() / self.head_dim)
    k, v = past_key_values.update(turned(k, at % CHUNK, inverse), v, self.layer_idx)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    positions = (at % CHUNK, (at % CHUNK + CHUNK).clamp(max=8191), torch.full_like(at, 8191))
    out = parts_of(*(turned(q, p, inverse) for p in positions), k, v, start)
    return self.o_proj(out.transpose(1, 2).reshape(1, n, -1)), None


def model():
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama import modeling_llama

    config = LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=131072, rope_theta=500000.0,
        tie_word_embeddings=True, attn_implementation="sdpa",
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        llama = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    tokens = torch.randint(0, 128256, (1, LENGTH), device=DEVICE)
    for name in ["plain", "DCA"]:
        if name == "DCA":
            modeling_llama.LlamaAttention.forward = chunk_forward
        for is_timed in [False, True]:
            torch.cuda.synchronize()
            begun = time.perf_counter()
            cache = llama(tokens, use_cache=True, logits_to_keep=1).past_key_values
            torch.cuda.synchronize()
            if is_timed:
                say(f"prefill {LENGTH}, {name}", 1000 * (time.perf_counter() - begun))
        times = []
        for n in range(20):
            begun = time.perf_counter()
            out = llama(tokens[:, n : n + 1], use_cache=True, past_key_values=cache)
            out.logits.argmax().item()
            times.append(1000 * (time.perf_counter() - begun))
        say(f"decode at {LENGTH}, {name}", statistics.median(times))


with torch.inference_mode():
    source = torch.empty(2**30, device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    say("device copy", median_ms(lambda: target.copy_(source)), 2**31, "GB/s")
    del source, target
    attention(32, 128)
    attention(32, 64)
    decode_attention(32, 32, 128)
    decode_attention(32, 8, 64)
    products()
    model()
