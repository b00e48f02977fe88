"""Teachers of any framework behind one typed contract, and a probe that tests it."""

from limbeck.foreign import http as http
from limbeck.foreign.boosters import xgboost as xgboost
from limbeck.foreign.estimators import sklearn as sklearn
from limbeck.foreign.foreign import Foreign as Foreign
from limbeck.foreign.functions import function as function
from limbeck.foreign.onnx_file import onnx as onnx
from limbeck.foreign.opening import open_teacher as open_teacher
from limbeck.foreign.openvino_file import openvino as openvino
from limbeck.foreign.probe import Probe as Probe
from limbeck.foreign.probe import probe as probe
from limbeck.foreign.processes import flax as flax
from limbeck.foreign.processes import keras as keras
from limbeck.foreign.runner import Runner as Runner
from limbeck.foreign.spec import Spec as Spec
from limbeck.foreign.torch_file import exported as exported
