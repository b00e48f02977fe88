"""Labelled images: sets by name, augmentation and batches, all random choices from counters."""

from limbeck.counters import derive as derive
from limbeck.counters import permutation as permutation
from limbeck.counters import uniforms as uniforms
from limbeck.data.augment import Augment as Augment
from limbeck.data.files import Files as Files
from limbeck.data.files import scan as scan
from limbeck.data.folder import open_folder as open_folder
from limbeck.data.images import Images as Images
from limbeck.data.images import same_classes as same_classes
from limbeck.data.loader import ImageBatch as ImageBatch
from limbeck.data.loader import Loader as Loader
from limbeck.data.loader import in_order as in_order
from limbeck.data.mix import Mix as Mix
from limbeck.data.sets import open_images as open_images
from limbeck.data.strata import carve as carve
from limbeck.data.strata import withhold as withhold
from limbeck.data.table import flag as flag
from limbeck.data.table import number as number
