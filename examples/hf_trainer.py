"""The Hugging Face Trainer: the distiller is the model, its loss the step's first field."""

# %%
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

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


# %% The rows' keys are the distiller's arguments, so that the Trainer must not drop columns.
class Advance(TrainerCallback):
    def on_step_begin(self, args, state, control, **rest):
        distiller.advance(state.global_step / state.max_steps)


options = TrainingArguments(
    "runs/hf_trainer",
    num_train_epochs=8,
    per_device_train_batch_size=50,
    lr_scheduler_type="constant",
    max_grad_norm=0,
    remove_unused_columns=False,
    use_cpu=True,
)
optimizer = torch.optim.AdamW(distiller.parameters(), lr=0.003)
trainer = Trainer(
    distiller, options, train_dataset=rows, callbacks=[Advance()], optimizers=(optimizer, None)
)
trainer.train()

# %%
for name, model in {"teacher": teacher, "student": student}.items():
    right = model.eval()(test.pixels / 255).argmax(1) == test.labels
    print(f"{name}: {right.float().mean():.1%} of the test digits")
