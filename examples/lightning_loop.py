"""Lightning: the distiller inside a LightningModule."""

# %%
import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from limbeck import Distiller, Match, losses, projectors, schedules, truth
from limbeck.data import open_images
from limbeck.inputs import Preprocess
from limbeck.zoo import mlp, small_cnn

torch.manual_seed(0)
torch.set_num_threads(1)


# %% 2,000 digits to train on and 2,500 to test on, as a data set like any other.
def digits(name):
    images = open_images(name)
    pixels = images.fetch(torch.arange(len(images)))
    return Preprocess(mean=(0.13,), std=(0.31,))(pixels), images.labels


train = [{"inputs": x, "target": y} for x, y in zip(*digits("digits:train"), strict=True)]
test_x, test_y = digits("digits:test")

# %% A teacher, trained as usual.
teacher = small_cnn(10, width=8)
optimizer = torch.optim.AdamW(teacher.parameters(), lr=0.01)
for _ in range(4):
    for batch in DataLoader(train, batch_size=50, shuffle=True):
        F.cross_entropy(teacher(batch["inputs"]), batch["target"]).backward()
        optimizer.step()
        optimizer.zero_grad()

# %% The student learns from the labels, the teacher's softened answers and its last features.
student = mlp(10, hidden=16)
objective = (
    0.3 * truth()
    + 0.7 * Match(losses.kl, temperature=schedules.Linear(4, 2))
    + 0.1 * Match(losses.hint, "2", "9", project=projectors.linear)
)
distiller = Distiller(student, teacher, objective)
distiller.prepare(test_x[:2], target=test_y[:2])  # makes the projector, so before the optimizer


# %% Lightning puts the module into train mode; the teacher stays out of its reach.
class Distillation(lightning.LightningModule):
    def __init__(self, distiller):
        super().__init__()
        self.distiller = distiller

    def training_step(self, batch):
        self.distiller.advance(self.global_step / self.trainer.estimated_stepping_batches)
        return self.distiller(**batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.distiller.parameters(), lr=0.003)


loader = DataLoader(train, batch_size=50, shuffle=True, generator=torch.Generator().manual_seed(0))
trainer = lightning.Trainer(
    max_epochs=10, accelerator="cpu", logger=False, enable_progress_bar=False
)
trainer.fit(Distillation(distiller), loader)
trainer.save_checkpoint("runs/lightning/last.ckpt")  # student and projector, no teacher


# %%
@torch.no_grad()
def accuracy(model):
    return (model.eval()(test_x).argmax(1) == test_y).float().mean().item()


print(f"test accuracy: teacher {accuracy(teacher):.1%}, student {accuracy(student):.1%}")
