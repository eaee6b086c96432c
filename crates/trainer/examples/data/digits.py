"""Writes digits.u8 beside this file: scikit-learn's copy of the UCI set of handwritten digits (Alpaydin and Kaynak, 1998; CC BY 4.0).

An image is 64 bytes, 8 rows of 8 pixels from 0 to 16, and its class one more. Run with scikit-learn installed: python digits.py
"""

from pathlib import Path

import numpy
from sklearn.datasets import load_digits

images, classes = load_digits(return_X_y=True)
rows = numpy.concatenate([images, classes[:, None]], axis=1).astype("uint8")
Path(__file__).with_name("digits.u8").write_bytes(rows.tobytes())
