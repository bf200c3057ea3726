"""Trains on windows of 1,024 tokens: one command, one GPU.

    python train.py --data build --out build/model.safetensors

Writes the weights in float16 under Hugging Face's names. README.md has the commands of the model that ships.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from data import ANSWER_WEIGHT, BOS, WINDOW
from model import Config, Llama, TrainedAttention, load_model


def learning_rate(step, steps, warm_up, floor=0.05):
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / (steps - warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


class Batches:
    """All data lies on the GPU. Books are read at random places, retrieval samples in order, wrapping around."""

    def __init__(self, folder, batch, share, seed):
        self.books = torch.from_numpy(np.load(folder / "books.npy").astype(np.int16)).cuda()
        samples = np.load(folder / "retrieval.npz")
        self.ids = torch.from_numpy(samples["ids"].astype(np.int16)).cuda()
        self.weights = torch.from_numpy(samples["weights"]).cuda()
        self.n_samples = round(batch * share)
        self.n_books = batch - self.n_samples
        self.random = torch.Generator(device="cuda").manual_seed(seed)
        self.window = torch.arange(WINDOW, device="cuda")

    def __call__(self, step):
        start = torch.randint(
            len(self.books) - WINDOW, (self.n_books, 1), generator=self.random, device="cuda"
        )
        text = self.books[start + self.window]
        bos = torch.full((self.n_books, 1), BOS, dtype=text.dtype, device="cuda")
        rows = torch.arange(self.n_samples, device="cuda") + step * self.n_samples
        rows %= len(self.ids)
        ids = torch.cat((torch.cat((bos, text), dim=1), self.ids[rows])).long()
        weights = torch.cat((torch.ones_like(text, dtype=torch.float32), self.weights[rows].float()))
        return ids, weights


def sharpening(batch, share, random):
    """A factor on a window's attention logits: 1 to 1.5, where log-n gets at 32 windows, for a share of the windows."""
    if share == 0:
        return torch.ones(batch, device="cuda")
    chosen = torch.rand(batch, generator=random, device="cuda") < share
    return 1 + 0.5 * torch.rand(batch, generator=random, device="cuda") * chosen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("build/model.safetensors"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--share", type=float, default=0.2, help="of a batch's windows that are retrieval samples")
    parser.add_argument("--sharpen", type=float, default=0.0, help="of the windows, see sharpening()")
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--blend", type=float, default=1.0, help="weight of the result in a mean with --init")
    parser.add_argument("--warm-up", type=int, default=150, help="steps")
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    config = Config()
    model = (load_model(args.init) if args.init else Llama(config)).cuda()
    attention = TrainedAttention(config).cuda()
    batches = Batches(args.data, args.batch, args.share, args.seed)

    matrices = [p for p in model.layers.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    adam_groups = [{"params": norms, "weight_decay": 0.0}, {"params": [model.embed_tokens.weight], "weight_decay": 0.1}]
    if args.optimizer == "adamw":
        adam_groups[1]["params"] += matrices
    optimizers = [torch.optim.AdamW(adam_groups, lr=args.lr, betas=(0.9, 0.95), fused=True)]
    if args.optimizer == "muon":
        # Scaled so that an update is as large as AdamW's, and one learning rate does for both.
        optimizers.append(
            torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        )

    @torch.compile
    def losses(ids, weights, factors):
        def attend(q, k, v):
            return attention(q * factors[:, None, None, None].to(q.dtype), k, v)

        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model.logits(model(ids[:, :-1], attend))
        each = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none").view_as(weights)
        is_answer = weights == ANSWER_WEIGHT
        on_books = each[: batches.n_books].detach().mean()
        on_answers = (each.detach() * is_answer).sum() / is_answer.sum().clamp(min=1)
        return (each * weights).sum() / weights.sum(), on_books, on_answers

    began = None
    for step in range(args.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * learning_rate(step, args.steps, args.warm_up)
        loss, on_books, on_answers = losses(*batches(step), sharpening(args.batch, args.sharpen, batches.random))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step == 20:  # compiled and warm
            torch.cuda.synchronize()
            began = time.time()
        if step % 100 == 0 or step == args.steps - 1:
            speed = (step - 20) * args.batch * WINDOW / (time.time() - began) / 1e6 if began and step > 20 else 0
            print(f"{step:5d}  books {on_books:.3f}  answers {on_answers:.4f}  {speed:.2f}M tokens/s", flush=True)

    weights = {name: p.half().float().cpu() for name, p in model.state_dict().items()}
    if args.blend < 1:
        old = load_model(args.init).state_dict()
        weights = {name: (1 - args.blend) * old[name] + args.blend * p for name, p in weights.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"model.{name}": p.half() for name, p in weights.items()}, args.out)
    n = sum(p.numel() for p in model.parameters())
    print(f"{n:,} parameters, {args.steps * args.batch * WINDOW / 1e6:.0f}M tokens, {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
