"""What the processes of `runs` begin with, so that none of them has to load it for itself."""

import os
from functools import partial

import torch
import torch._dynamo

from limbeck.data import open_images

torch.set_num_threads(1)  # before anything is computed: threads do not outlive a fork
# PyTorch makes a pool anew at its first use in a fork, which two threads at once must not be.
os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
open_images("digits:valid")
