"""What the processes of `runs` begin with, so that none of them has to load it for itself."""

import torch
import torch._dynamo

from limbeck.data import open_images

torch.set_num_threads(1)  # before anything is computed: threads do not outlive a fork
open_images("digits:valid")
