"""Language models behind an OpenAI-compatible server: what they say of texts, into a store."""

from limbeck.foreign.http.label import Labelled as Labelled
from limbeck.foreign.http.label import label as label
from limbeck.foreign.http.probe import Capabilities as Capabilities
from limbeck.foreign.http.probe import probe as probe
from limbeck.foreign.http.retry import Retry as Retry
from limbeck.foreign.http.server import Server as Server
from limbeck.foreign.http.texts import fingerprint as fingerprint
from limbeck.foreign.http.texts import read_texts as read_texts
