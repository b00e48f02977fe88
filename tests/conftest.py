"""One thread: tests are small, and sums stay in one order."""

import torch

torch.set_num_threads(1)
