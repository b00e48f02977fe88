"""Trains a small network of Keras on digits, and saves it with what it answers.

    python keras_teacher.py DIGITS.npz FOLDER

It needs Keras and NumPy alone: neither torch nor limbeck.
"""

import sys
from pathlib import Path

import keras
import numpy as np


def main(digits: str, folder: str) -> None:
    data, out = np.load(digits), Path(folder)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 3)),
            layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="early"),
            layers.Conv2D(16, 3, 2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, name="scores"),
            layers.Softmax(),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 3e-3
    model.fit(data["train"], data["labels"], batch_size=100, epochs=4, verbose=0)
    model.save(out / "net.keras")
    early = keras.Model(model.inputs, model.get_layer("early").output)
    np.savez(
        out / "keras.npz",
        probabilities=model.predict(data["valid"], verbose=0),
        early=early.predict(data["valid"], verbose=0),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
