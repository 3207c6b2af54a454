"""A backbone of the size of Lite 1.5 on a GPU: experts, prefill, decoding and training.

    python speed/gpu.py [--layers 28] [--only experts] [--seconds 3] [--json FILE]

Weights are random and bfloat16. The others are the obvious way (the loop over experts that comes
with the released model: tokens sorted by expert, counts copied to the host) and transformers'
Qwen2-MoE with its grouped products: the same number of layers, heads, experts and shared experts,
around the very same tensors of the experts. A step cannot be faster than reading, once, the weights
it visits; the memory's bandwidth is measured in the same run as the fastest sum over 2 GiB.

Claims: a prefill and a step of decoding are at least 1.2 times as fast as with the loop, and never
more than 5 % slower than transformers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from _turns import Ratio, Row, Verdict, all_of, finish, in_turns, options
from ming_core.model.cache import Cache
from ming_core.model.moe import Experts
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_core.training.losses import next_token_loss

LITE = {
    "model_type": "bailing_moe",
    "vocab_size": 126464,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 64,
    "num_experts_per_tok": 6,
    "num_shared_experts": 2,
    "moe_intermediate_size": 1408,
    "multi_gate": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 600000,
    "rope_scaling": {"type": "3D"},
}
SMALL = LITE | {
    "vocab_size": 32768,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 704,
}
TOY = {"vocab_size": 512, "hidden_size": 64, "moe_intermediate_size": 32, "num_experts": 8}
"""For a rehearsal on a CPU."""
PROMPT = 4096
BEHIND = 512
"""Tokens of prompt behind which a step is decoded."""


def loop(self: Experts, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """The released way: sorted by expert, the counts on the host, one expert after another."""
    n, k = index.shape
    order = index.flatten().argsort()
    counts = index.flatten().bincount(minlength=len(self.gate_up_proj)).cpu().tolist()
    parts = []
    for e, rows in enumerate(x[order // k].split(counts)):
        if len(rows):
            gate, up = self.gate_up_proj[e].chunk(2)
            parts.append(linear(silu(linear(rows, gate)) * linear(rows, up), self.down_proj[e]))
    y = torch.cat(parts)
    back = torch.empty_like(y).index_copy(0, order, y)
    return (back.view(n, k, -1) * weights.unsqueeze(-1)).sum(1).to(x.dtype)


@contextmanager
def looping() -> Iterator[None]:
    ours = Experts.forward
    Experts.forward = loop
    try:
        yield
    finally:
        Experts.forward = ours


class Bench:
    """The device, the sizes and what was found so far."""

    def __init__(self, device: str, seconds: float, layers: int, toy: bool) -> None:
        self.device, self.seconds = torch.device(device), seconds
        self.lite = LITE | {"num_hidden_layers": layers} | (TOY if toy else {})
        self.small = SMALL | (TOY if toy else {})
        self.prompt = 64 if toy else PROMPT
        self.behind = 16 if toy else BEHIND
        self.rows: list[Row] = []
        self.claims: dict[str, list[Verdict]] = {}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def turns(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Times of calls, each waited for."""

        def waited(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                call()
                self.wait()

            return run

        for call in calls.values():  # kernels are chosen and compiled at the second call, too
            waited(call)()
        return in_turns({name: waited(call) for name, call in calls.items()}, self.seconds)

    def compare(
        self, case: str, calls: Mapping[str, Callable[[], object]], tokens: int, **more: Any
    ) -> dict[str, list[float]]:
        """One row: our time, tokens per second and the ratios to the others."""
        times = self.turns(calls)
        ours = median(times["ours"])
        row: dict[str, Any] = {"case": case, "ms": 1e3 * ours, "tokens/s": round(tokens / ours)}
        for name in ("loop", "transformers", "eager", "batched"):
            row[f"{name} / ours"] = Ratio.of(times[name], times["ours"]) if name in times else None
        self.rows.append(row | {"of bandwidth": None} | more)
        print(case, {name: f"{1e3 * median(t):.3f} ms" for name, t in times.items()}, flush=True)
        return times

    def claim(self, words: str, verdict: Verdict) -> None:
        self.claims.setdefault(words, []).append(verdict)

    def claim_both(self, times: dict[str, list[float]], what: str) -> None:
        slower = Ratio.of(times["loop"], times["ours"]).at_least(1.2)
        self.claim(f"{what} at least 1.2 x as fast as the loop", slower)
        if "transformers" in times:
            alike = Ratio.of(times["transformers"], times["ours"]).at_least(1 / 1.05)
            self.claim(f"{what} at most 5 % slower than transformers", alike)

    # Sections

    @torch.inference_mode()
    def experts(self) -> None:
        """One layer of routed experts for some numbers of tokens."""
        e, k = self.lite["num_experts"], 6
        d, i = self.lite["hidden_size"], self.lite["moe_intermediate_size"]
        with self.made(torch.bfloat16):
            ours = Experts(e, d, i)
        for tokens in (1, 16, 512, self.prompt):
            x = torch.randn(tokens, d, device=self.device, dtype=torch.bfloat16)
            chances = torch.randn(tokens, e, device=self.device).softmax(dim=-1)
            weights, index = chances.topk(k, dim=-1)
            calls: dict[str, Callable[[], Tensor]] = {
                "ours": lambda x=x, i=index, w=weights: ours(x, i, w),
                "loop": lambda x=x, i=index, w=weights: loop(ours, x, i, w),
            }
            kinds = {"transformers": "grouped_mm", "eager": "eager"}
            for name, kind in (kinds | ({"batched": "batched_mm"} if tokens <= 16 else {})).items():
                theirs = transformers_experts(ours, kind)
                calls[name] = lambda t=theirs, x=x, i=index, w=weights: t(x, i, w)
            wanted = calls["loop"]().float()
            for name, call in calls.items():
                error = (call().float() - wanted).norm() / wanted.norm()
                if not error < 2e-2:
                    raise SystemExit(f"{name} differs from the loop by {error:.1e}")
            self.compare(f"experts, {tokens} tokens", calls, tokens)

    @torch.inference_mode()
    def decoding(self) -> None:
        """Steps of batch 1 and 16, and a prefill, of a whole backbone."""
        config = backbone_of({"llm_config": self.lite})
        start = time.perf_counter()
        backbone = self.filled(Backbone, config)
        size = sum(p.nbytes for p in backbone.parameters())
        print(f"{size / 1e9:.1f} GB of weights in {time.perf_counter() - start:.1f} s", flush=True)
        theirs = self.twin(backbone)
        peak = self.bandwidth()
        print(f"memory: {peak / 1e9:.0f} GB/s", flush=True)
        for batch in (1, 16):
            ours, others, counts = Stepper(self, backbone, batch), None, []
            calls: dict[str, Callable[[], object]] = {"ours": ours.step}
            with looping():
                slow = Stepper(self, backbone, batch)
            calls["loop"] = slow.looped
            if theirs is not None:
                others = TwinStepper(self, theirs, batch)
                calls["transformers"] = others.step
            counts = ours.visited()
            case = f"decode, batch {batch}, behind {self.behind}"
            times = self.compare(case, calls, batch)
            read = bytes_per_step(backbone, counts, batch * self.behind)
            step = median(times["ours"])
            self.rows[-1] = {**self.rows[-1], "of bandwidth": read / step / peak}
            print(f"  {read / 1e9:.2f} GB per step, {read / step / peak:.2f} of the bandwidth")
            self.claim_both(times, "decode")
            if self.device.type == "cuda":
                self.graphed(ours, read, peak, batch)
        ids = torch.randint(config.vocab_size, (1, self.prompt), device=self.device)
        places = torch.arange(self.prompt, device=self.device)[None]

        def prefill() -> Tensor:
            hidden = backbone(backbone.embed(ids), places, cache=Cache()).hidden[:, -1]
            return backbone.lm_head(hidden)

        def prefill_looped() -> Tensor:
            with looping():
                return prefill()

        calls = {"ours": prefill, "loop": prefill_looped}
        if theirs is not None:
            calls["transformers"] = lambda: theirs(input_ids=ids, logits_to_keep=1).logits
        self.claim_both(self.compare("prefill", calls, self.prompt), "prefill")

    def graphed(self, ours: Stepper, read: float, peak: float, batch: int) -> None:
        """The same kernels without the time to launch them; no claim, it says what is left."""
        try:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                ours.step()
            times = self.turns({"graph": graph.replay})["graph"]
            step = median(times)
            print(
                f"  as a CUDA graph: {1e3 * step:.3f} ms, {batch / step:.0f} tokens/s, "
                f"{read / step / peak:.2f} of the bandwidth",
                flush=True,
            )
        except Exception as error:
            print(f"  no CUDA graph: {type(error).__name__}: {str(error)[:300]}", flush=True)

    def training(self) -> None:
        """Forward and backward of a smaller model."""
        config = backbone_of({"llm_config": self.small})
        backbone = self.filled(Backbone, config)
        rows, length = (2, 32) if self.prompt < PROMPT else (8, 1024)
        ids = torch.randint(config.vocab_size, (rows, length), device=self.device)
        places = torch.arange(length, device=self.device).expand(rows, -1)

        def step() -> None:
            hidden = backbone(backbone.embed(ids), places).hidden
            next_token_loss(backbone.lm_head(hidden), ids).backward()
            backbone.zero_grad()

        def looped() -> None:
            with looping():
                step()

        calls: dict[str, Callable[[], object]] = {"ours": step, "loop": looped}
        theirs = self.twin(backbone)
        if theirs is not None:

            def twin_step() -> None:
                logits = theirs(input_ids=ids, use_cache=False).logits
                next_token_loss(logits, ids).backward()
                theirs.zero_grad()

            calls["transformers"] = twin_step
        times = self.compare("training step", calls, rows * length)
        if self.device.type == "cuda":
            for name, call in calls.items():
                torch.cuda.reset_peak_memory_stats()
                call()
                print(f"  {name}: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most")
        self.claim_both(times, "training")

    # Parts

    @contextmanager
    def made(self, dtype: torch.dtype) -> Iterator[None]:
        """Modules inside are made on the device in this dtype."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with self.device:
                yield
        finally:
            torch.set_default_dtype(before)

    def filled(self, kind: Callable[[Any], nn.Module], config: Any) -> Any:
        """A random bfloat16 module, straight on the device."""
        with torch.device("meta"):
            module = kind(config)
        module = module.to(torch.bfloat16).to_empty(device=self.device).eval()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.fill_(1) if "norm" in name else parameter.normal_(std=0.02)
        return module

    def twin(self, backbone: Backbone) -> Any:
        """transformers' model of the same shape around our experts; None where it is missing."""
        try:
            from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM
        except ImportError as error:
            print(f"no twin: {error}", flush=True)
            return None
        c = backbone.config
        config = Qwen2MoeConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            num_hidden_layers=c.num_hidden_layers,
            num_attention_heads=c.num_attention_heads,
            num_key_value_heads=c.num_key_value_heads,
            num_experts=c.num_experts,
            num_experts_per_tok=c.router.top_k,
            moe_intermediate_size=c.moe_intermediate_size,
            shared_expert_intermediate_size=c.num_shared_experts * c.moe_intermediate_size,
            norm_topk_prob=True,
            rms_norm_eps=c.rms_norm_eps,
            qkv_bias=False,
        )
        config.head_dim = c.head_dim
        config._attn_implementation = "sdpa"
        config._experts_implementation = "grouped_mm"
        with self.made(torch.bfloat16), few_values():
            config.num_experts, experts = 1, c.num_experts
            model = Qwen2MoeForCausalLM(config).eval()
        config.num_experts = experts
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".experts." not in name:
                    parameter.fill_(1) if "norm" in name else parameter.normal_(std=0.02)
        layers: Any = model.model.layers
        for theirs, mixture in zip(layers, backbone.mixtures):
            block = theirs.mlp
            block.experts.num_experts = block.gate.num_experts = experts
            block.experts.gate_up_proj = mixture.experts.gate_up_proj
            block.experts.down_proj = mixture.experts.down_proj
            gate = torch.randn(experts, c.hidden_size, device=self.device, dtype=torch.bfloat16)
            block.gate.weight = nn.Parameter(0.02 * gate)
        return model

    def bandwidth(self) -> float:
        """Bytes per second of reading the device's memory."""
        size = 2**31 if self.device.type == "cuda" else 2**27
        block = torch.ones(size // 4, device=self.device)
        times = self.turns({"sum": block.sum})["sum"]
        return size / min(times)


class Stepper:
    """Decodes the same place again and again, behind a prompt."""

    def __init__(self, bench: Bench, backbone: Backbone, batch: int) -> None:
        self.backbone, self.cache = backbone, Cache()
        vocabulary, device = backbone.config.vocab_size, bench.device
        ids = torch.randint(vocabulary, (batch, bench.behind), device=device)
        places = torch.arange(bench.behind, device=device).expand(batch, -1)
        backbone(backbone.embed(ids), places, cache=self.cache)
        self.token = ids[:, :1].contiguous()
        self.place = torch.full((batch, 1), bench.behind, device=device)
        self.length = bench.behind

    def step(self) -> Tensor:
        self.cache.crop(self.length)
        out = self.backbone(self.backbone.embed(self.token), self.place, cache=self.cache)
        return self.backbone.lm_head(out.hidden[:, -1]).argmax(dim=-1)

    def looped(self) -> Tensor:
        with looping():
            return self.step()

    def visited(self) -> list[int]:
        """How many experts of each layer a step visits."""
        self.cache.crop(self.length)
        out = self.backbone(self.backbone.embed(self.token), self.place, cache=self.cache)
        return [len(routing.index.unique()) for routing in out.routing]


class TwinStepper:
    """The same for transformers' model."""

    def __init__(self, bench: Bench, model: Any, batch: int) -> None:
        from transformers import DynamicCache

        self.model, self.cache, self.length = model, DynamicCache(), bench.behind
        ids = torch.randint(model.config.vocab_size, (batch, bench.behind), device=bench.device)
        model(input_ids=ids, past_key_values=self.cache, logits_to_keep=1)
        self.token = ids[:, :1].contiguous()

    def step(self) -> Tensor:
        more = self.cache.get_seq_length() - self.length
        if more:
            self.cache.crop(-more)
        out = self.model(input_ids=self.token, past_key_values=self.cache)
        return out.logits[:, -1].argmax(dim=-1)


@contextmanager
def few_values() -> Iterator[None]:
    """Modules inside are not filled; their values come later."""
    from torch.nn import init

    names = ("normal_", "uniform_", "kaiming_uniform_", "trunc_normal_")
    kept = {name: getattr(init, name) for name in names}
    for name in names:
        setattr(init, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(init, name, function)


def transformers_experts(ours: Experts, kind: str) -> nn.Module:
    """transformers' module around the very same tensors."""
    from transformers.models.qwen2_moe.configuration_qwen2_moe import Qwen2MoeConfig
    from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeExperts

    experts, hidden, width = ours.down_proj.shape
    config = Qwen2MoeConfig(num_experts=experts, hidden_size=hidden, moe_intermediate_size=width)
    config._experts_implementation = kind
    with torch.device("meta"):
        theirs = Qwen2MoeExperts(config)
    theirs.gate_up_proj, theirs.down_proj = ours.gate_up_proj, ours.down_proj
    return theirs


def bytes_per_step(backbone: Backbone, visited: list[int], tokens: int) -> float:
    """Bytes of a step of text: its weights, the visited experts', and the keys and values."""
    config, total = backbone.config, 0.0
    share = sum(visited) / (len(visited) * config.num_experts)
    for name, tensor in backbone.named_parameters():
        if name.startswith("word_embeddings") or "image_gate" in name or "audio_gate" in name:
            continue
        total += tensor.nbytes * (share if ".experts." in name else 1)
    heads = config.num_key_value_heads * config.head_dim
    return total + 2 * config.num_hidden_layers * heads * tokens * 2


def main() -> int:
    parser = options(__doc__, seconds=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=28, help="fewer need less memory")
    parser.add_argument("--only", choices=("experts", "decoding", "training"))
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script itself")
    args = parser.parse_args()
    torch.manual_seed(0)
    bench = Bench(args.device, args.seconds, args.layers, args.toy)
    for name in [args.only] if args.only else ["experts", "decoding", "training"]:
        getattr(bench, name)()
    claims = {words: all_of(verdicts) for words, verdicts in bench.claims.items()}
    return finish(bench.rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
