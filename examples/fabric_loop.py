"""Lightning Fabric: the plain loop with a few lines changed."""

# %%
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from limbeck import Distiller, Match, losses, projectors, schedules, truth
from limbeck.data import open_images
from limbeck.zoo import mlp, small_cnn

torch.manual_seed(0)

# %% 2,000 digits to train on and 2,500 to test on, as a data set like any other.
train, test = open_images("digits:train"), open_images("digits:test")
rows = [{"inputs": x, "target": y} for x, y in zip(train.pixels / 255, train.labels, strict=True)]
loader = DataLoader(rows, batch_size=50, shuffle=True)

# %% A teacher, trained as usual.
teacher = small_cnn(10, width=8)
optimizer = torch.optim.AdamW(teacher.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, total_steps=6 * len(loader))
for _ in range(6):
    for batch in loader:
        F.cross_entropy(teacher(batch["inputs"]), batch["target"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

# %% The student learns from the labels, the teacher's softened answers and its last features.
student = mlp(10, hidden=16)
objective = (
    0.3 * truth()
    + 0.7 * Match(losses.kl, temperature=schedules.Linear(4, 2))
    + 0.1 * Match(losses.hint, "2", "9", project=projectors.linear)
)
distiller = Distiller(student, teacher, objective)
distiller.prepare(**batch)  # makes the projector, so it comes before the optimizer

# %% The loop calls what `setup` returns, which is a wrapper where there are several processes.
fabric = Fabric(accelerator="cpu", devices=1)
fabric.launch()
model, optimizer = fabric.setup(distiller, torch.optim.AdamW(distiller.parameters(), lr=0.003))
loader = fabric.setup_dataloaders(loader)
for epoch in range(8):
    for k, batch in enumerate(loader):
        distiller.advance((epoch + k / len(loader)) / 8)
        step = model(**batch)
        fabric.backward(step.loss)
        optimizer.step()
        optimizer.zero_grad()
torch.save(distiller.state_dict(), "fabric.pt")

# %%
for name, model in {"teacher": teacher, "student": student}.items():
    right = model.eval()(test.pixels / 255).argmax(1) == test.labels
    print(f"{name}: {right.float().mean():.1%} of the test digits")
