"""Writes pointwise.json: functions and their derivatives at f64 arguments, computed with 120 digits and rounded once.

    pip install mpmath==1.3.0 && python3 pointwise.py > pointwise.json
"""
import json
import random
import struct

from mpmath import mp, mpf
import mpmath as m

mp.dps = 120
random.seed(1)


def bits(x):
    """The nearest f64 as 16 hexadecimal digits."""
    try:
        return struct.pack(">d", float(x)).hex()
    except OverflowError:
        return struct.pack(">d", float("inf") if x > 0 else float("-inf")).hex()


def spread(low, high, count=60):
    """Numbers of all sizes on both sides of 0 that lie in (low, high), and uniform ones."""
    out = []
    while len(out) < count:
        x = random.choice([-1, 1]) * 2.0 ** random.uniform(-60, 10) if random.random() < 0.6 else random.uniform(max(low, -40), min(high, 40))
        if low < x < high:
            out.append(x)
    return out


phi = lambda x: m.erfc(-x / m.sqrt(2)) / 2
density = lambda x: m.exp(-x * x / 2) / m.sqrt(2 * m.pi)
sigmoid = lambda x: 1 / (1 + m.exp(-x))
inner = lambda x: m.sqrt(2 / m.pi) * (x + mpf(0.044715) * x**3)
inner_slope = lambda x: m.sqrt(2 / m.pi) * (1 + 3 * mpf(0.044715) * x**2)
softplus = lambda x: m.log1p(m.exp(x))
INF = float("inf")

FUNCTIONS = {
    "exp": (m.exp, m.exp, -700, 700),
    "expm1": (m.expm1, m.exp, -700, 700),
    "log": (m.log, lambda x: 1 / x, 0, INF),
    "log2": (lambda x: m.log(x) / m.log(2), lambda x: 1 / (x * m.log(2)), 0, INF),
    "log10": (lambda x: m.log(x) / m.log(10), lambda x: 1 / (x * m.log(10)), 0, INF),
    "log1p": (m.log1p, lambda x: 1 / (1 + x), -1, INF),
    "sin": (m.sin, m.cos, -INF, INF),
    "cos": (m.cos, lambda x: -m.sin(x), -INF, INF),
    "tan": (m.tan, lambda x: 1 / m.cos(x) ** 2, -INF, INF),
    "asin": (m.asin, lambda x: 1 / m.sqrt(1 - x * x), -1, 1),
    "acos": (m.acos, lambda x: -1 / m.sqrt(1 - x * x), -1, 1),
    "atan": (m.atan, lambda x: 1 / (1 + x * x), -INF, INF),
    "sinh": (m.sinh, m.cosh, -700, 700),
    "cosh": (m.cosh, m.sinh, -700, 700),
    "tanh": (m.tanh, lambda x: 1 / m.cosh(x) ** 2, -350, 350),
    "erf": (m.erf, lambda x: 2 / m.sqrt(m.pi) * m.exp(-x * x), -26, 26),
    "sqrt": (m.sqrt, lambda x: 1 / (2 * m.sqrt(x)), 0, INF),
    "rsqrt": (lambda x: 1 / m.sqrt(x), lambda x: -1 / (2 * x * m.sqrt(x)), 0, INF),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, -INF, INF),
    "square": (lambda x: x * x, lambda x: 2 * x, -INF, INF),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x), -700, 700),
    "softplus": (softplus, sigmoid, -700, 700),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)), -700, 700),
    "gelu": (lambda x: x * phi(x), lambda x: phi(x) + x * density(x), -36, 700),
    "gelu_tanh": (
        lambda x: x * sigmoid(2 * inner(x)),
        lambda x: sigmoid(2 * inner(x)) * (1 + x * sigmoid(-2 * inner(x)) * 2 * inner_slope(x)),
        -18,
        100,
    ),
    "mish": (
        lambda x: x * m.tanh(softplus(x)),
        lambda x: m.tanh(softplus(x)) + x * sigmoid(x) / m.cosh(softplus(x)) ** 2,
        -340,
        340,
    ),
    "elu": (lambda x: x if x > 0 else m.expm1(x), lambda x: mpf(1) if x > 0 else m.exp(x), -700, 700),
}


def row(f, slope, x):
    return [bits(x), bits(f(mpf(x))), bits(slope(mpf(x)))]


table = {name: [row(f, slope, x) for x in spread(low, high)] for name, (f, slope, low, high) in FUNCTIONS.items()}
table["erfinv"] = []
for _ in range(60):
    x = random.choice([-1, 1]) * (1 - 2.0 ** random.uniform(-40, -0.1) if random.random() < 0.5 else random.uniform(0, 1) * 2.0 ** random.uniform(-30, 0))
    y = m.erfinv(mpf(x))
    table["erfinv"].append([bits(x), bits(y), bits(m.sqrt(m.pi) / 2 * m.exp(y * y))])

pairs = []
while len(pairs) < 120:
    b, e = random.choice([random.uniform(0, 4), 2.0 ** random.uniform(-20, 20), float(random.randint(1, 30))]), random.choice(
        [random.uniform(-20, 20), float(random.randint(-20, 20)), 0.5, 1 / 3]
    )
    if random.random() < 0.2 and e == int(e):
        b = -b
    if b == 0:
        continue
    y = mpf(b) ** mpf(e)
    if 1e-300 < abs(y) < 1e300 and abs(b) > 1e-9:
        de = y * m.log(mpf(abs(b))) if b > 0 else mpf(0)
        pairs.append([bits(b), bits(e), bits(y), bits(mpf(e) * mpf(b) ** (mpf(e) - 1)), bits(de)])
table["pow"] = pairs
print(json.dumps(table, indent=None, separators=(",", ":")).replace("]],", "]],\n"))
