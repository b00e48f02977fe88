"""Two small networks, a CNN and an MLP, teach each other digits: no teacher is needed."""

# %%
import torch
from torch.utils.data import DataLoader

from limbeck import Match, Mutual, losses, truth
from limbeck.data import open_images
from limbeck.zoo import mlp, small_cnn

# %% 2,000 digits to train on and 2,500 to test on.
train, test = open_images("digits:train"), open_images("digits:test")
rows = [{"inputs": x, "target": y} for x, y in zip(train.pixels / 255, train.labels, strict=True)]


def trained(objective, epochs=8):
    """The students after as many steps, from the same weights and on the same batches."""
    torch.manual_seed(0)
    students = {"cnn": small_cnn(10, width=8), "mlp": mlp(10, hidden=32)}
    mutual = Mutual(students, objective)
    loader = DataLoader(rows, batch_size=50, shuffle=True)
    optimizer = torch.optim.AdamW(mutual.parameters())
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(epochs):
        for batch in loader:
            step = mutual(**batch)
            step.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    print({name: f"{part:.3f}" for name, part in step.parts.items()})
    return students


def accuracy(student):
    return (student.eval()(test.pixels / 255).argmax(1) == test.labels).float().mean()


# %% Each from the labels alone, then from the labels and from the other. One seed: see what several
# say before you believe a difference.
alone = trained(truth())
together = trained(truth() + Match(losses.kl, source="peers", temperature=2))

# %%
for name in alone:
    print(f"{name} alone: {accuracy(alone[name]):.1%} of the test digits")
    print(f"{name} together: {accuracy(together[name]):.1%} of the test digits")
