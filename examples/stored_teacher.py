"""A teacher's answers in a file: a small CNN learns digits and writes its logits to teacher.npz.

A student of any framework can learn from them: flax_student.py and keras_student.py do.
"""

# %%
import numpy as np
import torch
import torch.nn.functional as F

from limbeck.data import Loader, open_images
from limbeck.zoo import small_cnn

torch.manual_seed(0)
train, test = open_images("digits:train"), open_images("digits:test")
loader = Loader(train, 50, seed=0)

# %% The teacher, trained as usual.
teacher = small_cnn(10, width=8)
optimizer = torch.optim.AdamW(teacher.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, total_steps=6 * len(loader))
for epoch in range(6):
    for batch in loader.epoch(epoch):
        F.cross_entropy(teacher(batch.images / 255), batch.target).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

# %% Its answers, beside the images and labels that they belong to.
teacher.eval()
with torch.no_grad():
    logits, answers = (teacher(x.pixels / 255) for x in (train, test))
right = (answers.argmax(1) == test.labels).float().mean()
print(f"teacher: {right:.1%} of the test digits")
np.savez(
    "teacher.npz",
    images=train.pixels.flatten(1) / 255,
    labels=train.labels,
    logits=logits,
    test_images=test.pixels.flatten(1) / 255,
    test_labels=test.labels,
)
