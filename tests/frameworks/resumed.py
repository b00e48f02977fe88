"""Saves the distiller's state before and after the Hugging Face Trainer loads its checkpoint.

python resumed.py EXAMPLE RESULT.pt
"""

import runpy
import sys

import torch


def main(example: str, result: str) -> None:
    ran = runpy.run_path(example, run_name="__main__")
    distiller = ran["distiller"]
    trained = {name: value.clone() for name, value in distiller.state_dict().items()}
    with torch.no_grad():
        for parameter in distiller.parameters():
            parameter.zero_()
    ran["trainer"].train(resume_from_checkpoint=True)
    torch.save({"trained": trained, "loaded": distiller.state_dict()}, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
