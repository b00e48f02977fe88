"""Teacher signals on disk: written once, by any number of processes, and read by key."""

from limbeck.store.codec import Codec as Codec
from limbeck.store.kept import CODECS as CODECS
from limbeck.store.kept import Kept as Kept
from limbeck.store.kept import codec as codec
from limbeck.store.keys import by_content as by_content
from limbeck.store.keys import by_number as by_number
from limbeck.store.places import place as place
from limbeck.store.store import Store as Store
from limbeck.store.stored import Stored as Stored
from limbeck.store.stored import of_tokens as of_tokens
from limbeck.store.upkeep import Summary as Summary
from limbeck.store.upkeep import damaged as damaged
from limbeck.store.upkeep import merge as merge
from limbeck.store.upkeep import prune as prune
from limbeck.store.upkeep import summary as summary
from limbeck.store.writer import Writer as Writer
