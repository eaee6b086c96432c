"""Records PyTorch's optimizers and schedules, step by step, as torch_reference.json beside this file.

Run with torch 2.11.0 on a CPU: python3 record.py. The optimizers run their plain loops (foreach and fused off). Numbers
are written as the hexadecimal bits of the float, so that nothing is lost on the way.
"""

import json
import pathlib
import struct

import torch
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as schedulers

STEPS, LENGTH = 8, 24

OPTIMIZERS = {
    "adamw": (AdamW, {"lr": 1e-3}),
    "adamw_tiny_gpt": (AdamW, {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}),
    "adamw_small_beta1": (AdamW, {"lr": 1e-2, "betas": (0.3, 0.9), "eps": 1e-6, "weight_decay": 0.0}),
    "adam": (Adam, {"lr": 1e-3}),
    "adam_l2": (Adam, {"lr": 1e-2, "weight_decay": 0.1}),
    "sgd": (SGD, {"lr": 1e-1}),
    "sgd_decay": (SGD, {"lr": 1e-1, "weight_decay": 0.1}),
    "sgd_momentum": (SGD, {"lr": 1e-2, "momentum": 0.9}),
    "sgd_dampening": (SGD, {"lr": 1e-2, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    "sgd_nesterov": (SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
}

SCHEDULES = {
    "cosine": lambda o: schedulers.CosineAnnealingLR(o, T_max=20, eta_min=1e-4),
    "step": lambda o: schedulers.StepLR(o, step_size=5, gamma=0.3),
    "one_cycle": lambda o: schedulers.OneCycleLR(o, max_lr=0.1, total_steps=20),
}


def bits(tensor):
    form = ">f" if tensor.dtype == torch.float32 else ">d"
    return [struct.pack(form, x).hex() for x in tensor.tolist()]


def record_optimizer(kind, settings, dtype):
    generator = torch.Generator().manual_seed(7)
    draw = lambda: torch.randn(LENGTH, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(draw().to(dtype))
    optimizer = kind([parameter], foreach=False, fused=False, **settings)
    steps = []
    start = bits(parameter.detach())
    for step in range(STEPS):
        # Gradients from 1e-6 to 10, so that eps matters for some elements and not for others.
        size = torch.logspace(-6, 1, LENGTH, dtype=torch.float64)
        parameter.grad = (draw() * size).to(dtype)
        optimizer.step()
        moments = {
            name: bits(value)
            for name, value in optimizer.state[parameter].items()
            if name in ("exp_avg", "exp_avg_sq", "momentum_buffer") and value is not None
        }
        steps.append({"grad": bits(parameter.grad), "weight": bits(parameter.detach()), "moments": moments})
    return {"start": start, "steps": steps}


def record_schedule(make):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make(optimizer)
    rates = []
    for step in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 19:
            schedule.step()
    return rates


out = {
    "source": f"torch {torch.__version__}, record.py",
    "optimizers": {
        name: {
            "settings": settings,
            "f32": record_optimizer(kind, settings, torch.float32),
            "f64": record_optimizer(kind, settings, torch.float64),
        }
        for name, (kind, settings) in OPTIMIZERS.items()
    },
    "schedules": {name: record_schedule(make) for name, make in SCHEDULES.items()},
}
path = pathlib.Path(__file__).with_name("torch_reference.json")
path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
print(path, path.stat().st_size)
