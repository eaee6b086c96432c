"""The other side of `cargo xtask bench compare`: the workloads of `checks bench` in PyTorch, trained by Lightning's Trainer
or used in inference mode, on a CPU. Prints one line of JSON.

    reference.py train gpt_mini|mlp_mini|resnet18 PRECISION --steps N --seconds S
    reference.py infer gpt_mini PRECISION --steps N --seconds S

A run ends after N steps, or after the step in which S seconds have passed since the first began: without an instruction
for it, 16-bit products of PyTorch take a hundred times as long as those of f32.
"""

import argparse
import contextlib
import json
import logging
import statistics
import time
import warnings

import lightning
import torch
from torch import nn
from torch.nn import functional as F

# As many untimed steps as `checks bench` has, or a third where fewer were taken.
WARM_UP = 5


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        batch, time_, width = x.shape
        qkv = self.qkv(x).view(batch, time_, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(batch, time_, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * width, width),
        )

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class Gpt(nn.Module):
    """The size of `GptConfig::MINI`."""

    VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 256, 128, 256, 4, 4

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(self.VOCABULARY, self.WIDTH)
        self.positions = nn.Embedding(self.CONTEXT, self.WIDTH)
        self.blocks = nn.Sequential(*(Block(self.WIDTH, self.HEADS) for _ in range(self.LAYERS)))
        self.norm = nn.LayerNorm(self.WIDTH)
        self.head = nn.Linear(self.WIDTH, self.VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def gpt_mini():
    rows = torch.randint(Gpt.VOCABULARY, (16, Gpt.CONTEXT + 1))
    return Gpt(), (rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def mlp_mini():
    layers = [layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), (torch.randn(512, 1024), torch.randn(512, 1024))


def resnet18():
    import torchvision

    return torchvision.models.resnet18(), (torch.randn(8, 3, 112, 112), torch.randint(1000, (8,)))


WORKLOADS = {"gpt_mini": gpt_mini, "mlp_mini": mlp_mini, "resnet18": resnet18}


class Learner(lightning.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch, _):
        output, targets = self.net(batch[0]), batch[1]
        if targets.is_floating_point():
            return F.mse_loss(output, targets.to(output.dtype))
        return F.cross_entropy(output.flatten(0, -2), targets.flatten())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-4, weight_decay=0.1, fused=True)


class Clock(lightning.Callback):
    """Laps of steps, each ended by reading its loss."""

    def __init__(self, seconds):
        self.seconds, self.laps, self.last = seconds, [], None

    def start(self):
        self.first = self.last = time.perf_counter()

    def lap(self):
        now = time.perf_counter()
        self.laps.append(now - self.last)
        self.last = now
        return now - self.first > self.seconds

    def on_train_start(self, *_):
        self.start()

    def on_train_batch_end(self, trainer, _, outputs, *__):
        outputs["loss"].item()
        trainer.should_stop |= self.lap()


def train(args, clock):
    net, batch = WORKLOADS[args.workload]()
    trainer = lightning.Trainer(
        precision=args.precision,
        accelerator="cpu",
        max_steps=args.steps,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Learner(net), torch.utils.data.DataLoader([batch] * args.steps, batch_size=None))


def infer(args, clock):
    net, (tokens, _) = gpt_mini()
    dtypes = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}
    bits, _, kind = args.precision.partition("-")
    mixed = kind == "mixed"
    region = torch.autocast("cpu", dtypes[bits]) if mixed else contextlib.nullcontext()
    net = net.eval() if mixed else net.eval().to(dtypes[bits])
    with torch.inference_mode(), region:
        clock.start()
        for _ in range(args.steps):
            net(tokens)[:, -1].float().argmax(-1)
            if clock.lap():
                break


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "infer"])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("precision")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    clock = Clock(args.seconds)
    {"train": train, "infer": infer}[args.what](args, clock)
    timed = clock.laps[min(WARM_UP, len(clock.laps) // 3) :]
    ms = round(1e3 * statistics.median(timed), 3)
    print(json.dumps({"w": args.workload, "p": args.precision, "ms": ms, "steps": len(clock.laps)}))


main()
