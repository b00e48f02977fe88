"""What codecs have lost, over the batches of a shard and the shards of a store."""

from collections.abc import Sequence

Error = dict[str, dict[str, float]]  # signal -> measure -> number


def pooled(errors: Sequence[tuple[int, Error]]) -> Error:
    """The errors of several batches: means by rows, but the largest of what is called `max`."""
    found: Error = {}
    for name in errors[0][1]:
        every = [(n, each[name]) for n, each in errors if each[name]]
        measures = every[0][1] if every else {}
        rows = sum(n for n, _ in every)
        found[name] = {
            measure: max(each[measure] for _, each in every)
            if measure == "max"
            else sum(n * each[measure] for n, each in every) / rows
            for measure in measures
        }
    return found
