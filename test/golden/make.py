"""
Writes every fixture in this folder: `python make.py` (see README.md). Deterministic; about ten seconds on one core.

Logits of plain attention are transformers' own, those of Dual Chunk Attention come from `dca.py`, whose forward pass is
held against transformers here before it is believed.
"""
import copy
import json
import logging
import math
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import gguf
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import dca
import models
import tables
import vocab

HERE = Path(__file__).parent
SHORT, LONG = 30, 170  # tokens: within the window of 32; eight chunks under the paper's preset
SHORT_ROWS = [0, 1, 7, 23, 29]  # positions whose logits are kept
LONG_ROWS = [5, 24, 47, 119, 169]  # chunk borders of the paper's preset among them
NEW_TOKENS = 24  # of the greedy continuation
MARGIN = 0.05  # least lead of a greedy token's logit
C = models.WINDOW

SCALING = dict(
    linear=dict(ropeType="linear", factor=4.0),
    ntk=dict(ropeType="ntk", factor=4.0),
    dynamic=dict(ropeType="dynamic", factor=2.0),
    yarn=dict(ropeType="yarn", factor=4.0, originalMaxPositionEmbeddings=C),
    llama3=dict(
        ropeType="llama3", factor=4.0, lowFreqFactor=1.0, highFreqFactor=4.0, originalMaxPositionEmbeddings=C
    ),
)
PAPER, CHUNKLLAMA = dca.paper(C), dca.chunkllama(C)
FIGURE_2 = dict(chunkLen=6, maxDistance=9, parts="full", scale="none", trainedLen=C)

# name: (method, rope scaling)
DCA_CASES = {
    "paper": (PAPER, None),
    "chunkllama": (CHUNKLLAMA, None),
    "chunks of 6": (FIGURE_2, None),
    "intra": ({**PAPER, "parts": "intra"}, None),
    "intra+inter": ({**PAPER, "parts": "intra+inter"}, None),
    "scale yarn": ({**PAPER, "scale": "yarn"}, None),
    "scale logn": ({**CHUNKLLAMA, "scale": "logn"}, None),
    "rope linear": (PAPER, "linear"),
    "rope ntk": (PAPER, "ntk"),
    "rope dynamic": (dca.paper(2 * C), "dynamic"),  # within the config's own window the rule does nothing
    "rope yarn": (PAPER, "yarn"),
    "rope llama3": (PAPER, "llama3"),
    "rope yarn, scale logn": ({**FIGURE_2, "scale": "logn"}, "yarn"),
}
PLAIN_RULES = {"llama": list(SCALING), "mistral": ["dynamic"], "qwen2": ["yarn"], "qwen3": ["yarn", "llama3"], "olmo2": ["linear"], "smollm3": ["yarn"], "gemma3_text": ["linear"]}
DCA_NAMES = {
    "llama": list(DCA_CASES),
    "mistral": ["paper", "intra+inter", "scale logn"],
    "qwen2": ["paper", "chunkllama", "scale yarn", "rope yarn"],
    "qwen3": ["paper", "chunks of 6", "intra", "rope yarn, scale logn"],
    "olmo2": ["paper", "scale logn"],
    "smollm3": ["paper", "chunks of 6", "scale logn", "rope yarn"],
    "gemma3_text": ["paper", "chunkllama", "chunks of 6", "intra", "scale logn", "rope yarn"],
}
QUANTISED = {  # of llama
    "model.q8_0.gguf": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "model.q4_1.gguf": (gguf.GGMLQuantizationType.Q4_1, gguf.LlamaFileType.MOSTLY_Q4_1),
}


@contextmanager
def float32_is_float64():
    """transformers takes norms, softmax and angles in float32 whatever the model's type; in here, in float64."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "float32", torch.float64))
        stack.enter_context(patch.object(torch, "float", torch.float64))
        stack.enter_context(patch.object(torch.Tensor, "float", torch.Tensor.double))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        yield


class Golden:
    """One checkpoint and its expected values."""

    def __init__(self, name):
        self.name = name
        self.folder = HERE / name
        self.config = AutoConfig.from_pretrained(self.folder)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.weights = models.read_folder(self.folder)
        text = vocab.TEXT[len(vocab.TEXT) // 2 :]
        self.tokens = self.tokenizer(text)["input_ids"][:LONG]

    def transformer(self, scaling=None, sliding_window=None):
        """transformers' model in float64 with these weights."""
        config = tables.scaled(self.config, scaling)
        if sliding_window:
            config.sliding_window = sliding_window
        with float32_is_float64():
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float64, attn_implementation="eager")
            model.load_state_dict(self.weights, strict=False)  # strict would ask for a tied head
            if (scale := getattr(model.model.embed_tokens, "embed_scale", None)) is not None:
                scale.copy_(scale.to(models.SPECS[self.name].dtype))  # as in the type of the folder
        return model.eval()

    def plain_logits(self, tokens, scaling=None, sliding_window=None):
        """transformers' logits `[n, vocab]`, after checking that `dca.forward` agrees with them."""
        with float32_is_float64():
            logits = self.transformer(scaling, sliding_window)(torch.tensor([tokens])).logits[0]
        table = dca.distances(len(tokens), sliding_window=sliding_window)
        own = self.own_logits(tokens, scaling, len(tokens), table, dca.logit_factors(len(tokens)))
        assert (logits - own).abs().max() < 1e-9
        return logits

    def dca_logits(self, tokens, method, scaling=None):
        """Logits `[n, vocab]` under Dual Chunk Attention."""
        n = len(tokens)
        table, factors = dca.distances(n, method), dca.logit_factors(n, method)
        return self.own_logits(tokens, scaling, method["trainedLen"], table, factors)

    def own_logits(self, tokens, scaling, longest, table, factors):
        """`dca.forward` with RoPE's rule settled for `longest` positions."""
        with float32_is_float64():
            rope = tables.rope(tables.scaled(self.config, scaling), longest)
        weights = {name: tensor.double() for name, tensor in self.weights.items()}
        return dca.forward(weights, self.config, tokens, rope, table, factors, self.local(len(tokens)))

    def local(self, n):
        """RoPE, distances and factors of layers with a window, where the model has some."""
        if self.name != "gemma3_text":
            return None
        config = copy.deepcopy(self.config)
        config.rope_theta = config.rope_local_base_freq
        with float32_is_float64():
            rope = tables.rope(config, n)
        return rope, dca.distances(n, sliding_window=config.sliding_window), dca.logit_factors(n)

    def plain_case(self, name, tokens, rule=None, sliding_window=None):
        """A case under plain attention."""
        scaling = SCALING.get(rule)
        logits = self.plain_logits(tokens, scaling, sliding_window)
        return case(name, None, scaling, len(tokens), tokens, logits, sliding_window)

    def dca_case(self, name):
        """A case of DCA_CASES."""
        method, rule = DCA_CASES[name]
        scaling = SCALING.get(rule)
        logits = self.dca_logits(self.tokens, method, scaling)
        return case(name, method, scaling, method["trainedLen"], self.tokens, logits)

    def greedy(self):
        """Prompt and greedy continuation, from a place in the text where no choice is close and few words repeat."""
        model = self.transformer()
        for start in range(LONG):
            prompt = self.tokens[start : start + C - NEW_TOKENS]
            with float32_is_float64():
                answer = model.generate(
                    torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
                )[0].tolist()
                best = model(torch.tensor([answer])).logits[0, len(prompt) - 1 : -1].topk(2).values
            continuation = answer[len(prompt) :]
            lead = (best[:, 0] - best[:, 1]).min()
            if len(continuation) == NEW_TOKENS and lead > MARGIN and len(set(continuation)) > NEW_TOKENS / 2:
                return dict(prompt=prompt, continuation=continuation, smallestMargin=lead.item())
        raise AssertionError(f"{self.name}: no prompt with a clear continuation")

    def check_sensitivity(self):
        """Attention must be sharp and positions must matter, or wrong positions would pass unseen."""
        with float32_is_float64():
            layers = self.transformer()(torch.tensor([self.tokens]), output_attentions=True).attentions
        last = torch.stack(layers)[:, 0, :, -1].double()  # [layers, heads, n]
        evenness = -torch.special.xlogy(last, last).sum(-1).mean().item() / math.log(LONG)
        plain, paper = self.plain_logits(self.tokens), self.dca_logits(self.tokens, PAPER)
        moved = ((plain - paper)[PAPER["chunkLen"] * 2 :].std() / plain.std()).item()
        print(f"{self.name}: entropy of attention {evenness:.2f} of even, DCA moves logits by {moved:.2f} deviations")
        assert evenness < 0.7 and moved > 0.3
        in_one_chunk = {**PAPER, "chunkLen": LONG, "maxDistance": LONG}
        assert (plain - self.dca_logits(self.tokens, in_one_chunk)).abs().max() < 1e-9
        if self.name == "gemma3_text":
            self.check_mistakes(plain)

    def check_mistakes(self, plain):
        """Each thing that only this model has must move logits, or its lack would pass unseen."""
        config, weights = self.config, self.weights
        changes = dict(
            local_base=dict(rope_local_base_freq=config.rope_theta),
            global_base=dict(rope_theta=config.rope_local_base_freq),
            window=dict(sliding_window=config.sliding_window + 1),
            layers=dict(layer_types=config.layer_types[::-1][:-1] + ["full_attention"]),
            scale=dict(query_pre_attn_scalar=config.query_pre_attn_scalar + 1),
            activation=dict(hidden_activation="silu"),
        )
        found = {}

        def moved():
            with float32_is_float64():
                logits = self.transformer()(torch.tensor([self.tokens])).logits[0]
            return ((logits - plain).std() / plain.std()).item()

        for name, change in changes.items():
            self.config = copy.deepcopy(config)
            for key, value in change.items():
                setattr(self.config, key, value)
            found[name] = moved()
        self.config = config
        for norm in sorted({name.split(".")[-2] for name in weights if "norm" in name}):
            self.weights = {name: 0 * w if name.split(".")[-2] == norm else w for name, w in weights.items()}
            found[norm] = moved()
        self.weights = weights
        print({name: round(value, 3) for name, value in found.items()})
        assert min(found.values()) > 0.01

    def tokenizer_cases(self):
        """Tricky texts and their ids, without and with the special tokens the tokenizer adds."""
        return [
            dict(
                text=text,
                ids=self.tokenizer(text, add_special_tokens=False)["input_ids"],
                idsWithSpecial=self.tokenizer(text, add_special_tokens=True)["input_ids"],
            )
            for text in vocab.tricky_texts(self.tokenizer)
        ]

    def chat_cases(self):
        """Conversations as the template renders them, up to where the assistant speaks."""
        render = self.tokenizer.apply_chat_template
        return [
            dict(
                messages=messages,
                rendered=render(messages, tokenize=False, add_generation_prompt=True),
                ids=render(messages, add_generation_prompt=True),
            )
            for messages in vocab.conversations(self.name)
        ]

    def expected(self):
        """Everything that `expected.json` holds."""
        plain = [self.plain_case("short", self.tokens[:SHORT]), self.plain_case("long", self.tokens)]
        plain += [self.plain_case(f"rope {rule}", self.tokens, rule) for rule in PLAIN_RULES[self.name]]
        if self.name == "mistral":
            plain.append(self.plain_case("sliding window", self.tokens, sliding_window=20))
        values = dict(
            plain=plain,
            dca=[self.dca_case(name) for name in DCA_NAMES[self.name]],
            greedy=self.greedy(),
            nll=dict(
                tokens=self.tokens,
                plain=mean_nll(self.plain_logits(self.tokens), self.tokens),
                dcaPaper=mean_nll(self.dca_logits(self.tokens, PAPER), self.tokens),
            ),
            tokenizer=self.tokenizer_cases(),
            chat=self.chat_cases(),
        )
        if self.name == "llama":
            values["quantised"] = [
                dict(file=file, **one_case) for file in QUANTISED for one_case in self.quantised_cases(file)
            ]
        return values

    def quantised_cases(self, file):
        """Cases with the weights of a quantised GGUF file, dequantised."""
        quantised = Golden(self.name)
        quantised.weights = models.read_gguf(self.name, self.folder / file)
        return [quantised.plain_case("short", self.tokens[:SHORT]), quantised.dca_case("paper")]


def case(name, method, scaling, longest, tokens, logits, sliding_window=None):
    """A record of settings, tokens and the logits of some rows."""
    rows = SHORT_ROWS if len(tokens) == SHORT else LONG_ROWS
    return dict(
        name=name,
        method=method,
        ropeScaling=scaling,
        **(dict(slidingWindow=sliding_window) if sliding_window else {}),
        longest=longest,
        tokens=tokens,
        rows=rows,
        logits=tables.encode(logits[rows]),
    )


def mean_nll(logits, tokens):
    """Mean of -ln p of every token but the first, nats."""
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:])).item()


def write_json(path, value):
    """JSON with a line for each member of each top-level list, so that a diff shows which case changed."""

    def line(item):
        return json.dumps(item, ensure_ascii=False)

    def block(item):
        return "[\n" + ",\n".join(map(line, item)) + "\n]" if isinstance(item, list) else line(item)

    if isinstance(value, dict):
        text = "{\n" + ",\n".join(f"{line(key)}: {block(item)}" for key, item in value.items()) + "\n}"
    else:
        text = block(value)
    assert json.loads(text) == value
    path.write_text(text + "\n", encoding="utf-8")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    logging.getLogger("gguf.vocab").setLevel(logging.ERROR)  # it misses separators, which only encoders have
    dca.check_figure_2()
    for name in models.SPECS:
        folder = HERE / name
        models.write_checkpoint(name, folder)
        if name == "llama":
            for file, (matrix_type, file_type) in QUANTISED.items():
                models.write_gguf(name, folder, file, matrix_type, file_type)
        golden = Golden(name)
        golden.check_sensitivity()
        write_json(folder / "expected.json", golden.expected())
    with float32_is_float64():
        write_json(HERE / "rope.json", tables.rope_table())
    write_json(HERE / "quants.json", tables.quant_table())


if __name__ == "__main__":
    main()
