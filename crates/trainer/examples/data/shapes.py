"""Trains the classifier of 08_fine_tune_pytorch.rs in PyTorch and saves its state_dict as shapes.safetensors beside this file.

Run with torch 2.15 and safetensors installed: python shapes.py
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

SIDE, CLASSES = 16, 3  # disc, square, cross


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16 * SIDE // 4 * SIDE // 4, CLASSES)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.norm(self.first(x))), 2)
        x = functional.max_pool2d(functional.relu(self.second(x)), 2)
        return self.head(x.flatten(1))


def shapes(count):
    classes = torch.randint(CLASSES, (count,))
    x, y = torch.empty(2, count, 1, 1).uniform_(5, 11)
    radius = torch.empty(count, 1, 1).uniform_(2.5, 5)
    dx = (torch.arange(SIDE).view(1, 1, SIDE) - x).abs()
    dy = (torch.arange(SIDE).view(1, SIDE, 1) - y).abs()
    disc = dx * dx + dy * dy <= radius * radius
    square = torch.maximum(dx, dy) <= 0.85 * radius
    cross = (torch.minimum(dx, dy) < 1) & (torch.maximum(dx, dy) <= radius)
    images = torch.stack([disc, square, cross])[classes, torch.arange(count)].float()
    return (images + torch.empty_like(images).uniform_(-0.4, 0.4)).unsqueeze(1), classes


torch.manual_seed(0)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for step in range(300):
    images, classes = shapes(64)
    loss = functional.cross_entropy(net(images), classes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
net.eval()
images, classes = shapes(2000)
print("accuracy", (net(images).argmax(1) == classes).float().mean().item())
save_file(net.state_dict(), Path(__file__).parent / "shapes.safetensors")
