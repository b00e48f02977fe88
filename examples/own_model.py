"""A model of your own: inputs and outputs are mappings, and a reader gives its signals names."""

# %%
import torch
from torch import nn

from limbeck import Distiller, Match, Reader, losses, projectors, truth
from limbeck.data import Loader, in_order, open_images
from limbeck.zoo import small_cnn

torch.manual_seed(0)


# %% The student takes and returns what the models of many libraries do.
class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.classifier = nn.Linear(784, 16), nn.Linear(16, 10)

    def forward(self, pixel_values):
        hidden = self.layer(pixel_values.flatten(1)).relu()
        return {"logits": self.classifier(hidden), "hidden_states": (pixel_values, hidden)}


# %% How each model looks at a batch, and where its signals are; from here on both speak alike.
student = Reader(
    Student(),
    inputs=lambda batch: {"pixel_values": batch.images / 255},
    names={"logits": "output.logits", "features": "output.hidden_states.1"},
)
teacher = Reader(
    small_cnn(10, width=8),
    inputs=lambda batch: batch.images / 255,
    names={"logits": "output", "features": "9"},
)
loader = Loader(open_images("digits:train"), 50, seed=0)


# %% One loop trains the teacher, from the labels alone, and then the student.
def fit(distiller):
    batch = next(loader.epoch(0))
    distiller.prepare(batch, target=batch.target)
    optimizer = torch.optim.AdamW(distiller.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, total_steps=6 * len(loader))
    for epoch in range(6):
        for batch in loader.epoch(epoch):
            distiller(batch, target=batch.target).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


fit(Distiller(teacher, {}, truth("logits")))
objective = (
    0.3 * truth("logits")
    + 0.7 * Match(losses.kl, "logits", temperature=4)
    + 0.1 * Match(losses.hint, "features", project=projectors.linear)
)
fit(Distiller(student, teacher, objective))

# %%
test = next(in_order(open_images("digits:test"), 2500))
for name, reader in {"teacher": teacher, "student": student}.items():
    reader.model.eval()
    _, signals = reader.read(reader.adapt(test), ["logits"])
    right = signals["logits"].argmax(1) == test.target
    print(f"{name}: {right.float().mean():.1%} of the test digits")
