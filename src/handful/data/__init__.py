"""Data sets: examples grouped by class, and tasks drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .arrays import arrays
from .assays import AssayEpisodes, AssayPool
from .attributes import attributes
from .augmentation import Augmentation, Augmented
from .check import check_data
from .cifar import add_cifar100, cifar_fs, fc100
from .descriptions import DescribedPool, ZeroShotEpisodes
from .digits import digits
from .episodes import Draw, Episodes
from .folder import folder
from .foreign import dataset_pool
from .fsmol import add_fsmol, fsmol
from .functions import FunctionEpisodes, Line, Sinusoid
from .intents import (
    add_banking77,
    add_clinc150,
    add_huffpost,
    add_hwu64,
    banking77,
    clinc150,
    huffpost,
    hwu64,
)
from .mini_imagenet import add_mini_imagenet, mini_imagenet
from .molecules import add_sider, add_tox21, sider, tox21
from .omniglot import add_omniglot, omniglot
from .own_molecules import molecules
from .own_relations import relations, relations_pool
from .picture_sets import add_cub, add_faces, add_tiered_imagenet, cub, faces, tiered_imagenet
from .pool import ClassPool, rotations, symmetries
from .regression import regression
from .relations import add_fewrel, fewrel
from .splitting import split_pool
from .tables import columns_pool, table

__all__ = [
    "DATASETS",
    "AssayEpisodes",
    "AssayPool",
    "Augmentation",
    "Augmented",
    "ClassPool",
    "DataSet",
    "DescribedPool",
    "Draw",
    "Episodes",
    "FunctionEpisodes",
    "Line",
    "Sinusoid",
    "ZeroShotEpisodes",
    "arrays",
    "attributes",
    "banking77",
    "check_data",
    "cifar_fs",
    "clinc150",
    "columns_pool",
    "cub",
    "dataset_pool",
    "digits",
    "faces",
    "fc100",
    "fewrel",
    "folder",
    "fsmol",
    "huffpost",
    "hwu64",
    "mini_imagenet",
    "molecules",
    "omniglot",
    "regression",
    "relations",
    "relations_pool",
    "rotations",
    "sider",
    "split_pool",
    "symmetries",
    "table",
    "tiered_imagenet",
    "tox21",
]


class DataSet(NamedTuple):
    """An entry of the catalog: how to load it, and what to know before."""

    load: Callable[..., Any]
    summary: str
    licence: str
    source: str
    add: Callable[[Path], Any] | None = None
    """Takes a copy that the user has, for `handful data add NAME --from FOLDER`."""


DATASETS: dict[str, DataSet] = {
    "omniglot": DataSet(
        omniglot,
        "1,623 handwritten characters of 50 alphabets, 20 drawers each, 28×28",
        "MIT (Lake, Salakhutdinov & Tenenbaum 2015)",
        "https://github.com/brendenlake/omniglot",
        add_omniglot,
    ),
    "digits": DataSet(
        digits,
        "1,797 handwritten digits 8×8, split by digit, times the symmetries of the square",
        "CC BY 4.0 (UCI), comes with scikit-learn",
        "https://archive.ics.uci.edu/dataset/80",
    ),
    "attributes": DataSet(
        attributes, "zero-shot: made-up classes, described by their attributes", "none needed", "made up from a seed"
    ),
    "folder": DataSet(folder, "your own pictures: a folder of class folders", "yours", "docs/data/own.md"),
    "table": DataSet(table, "your own texts or vectors: CSV, TSV, JSONL, Parquet", "yours", "docs/data/own.md"),
    "arrays": DataSet(arrays, "your own arrays: an .npz file of examples and labels", "yours", "docs/data/own.md"),
    "molecules": DataSet(
        molecules, "your own molecules: a table of SMILES, and classes or assays", "yours", "docs/data/own.md"
    ),
    "regression": DataSet(
        regression, "your own regression tasks: a table, or a folder of tables", "yours", "docs/data/own.md"
    ),
    "relations": DataSet(
        relations,
        "your own relations: a table of sentences with two entities, or FewRel's JSON",
        "yours",
        "docs/data/own.md",
    ),
    "mini-imagenet": DataSet(
        mini_imagenet,
        "100 classes of ImageNet × 600, 84×84 color; 64, 16 and 20 classes",
        "ImageNet's terms: non-commercial research",
        "Vinyals et al. 2016, arXiv:1606.04080; split of Ravi & Larochelle 2017",
        add_mini_imagenet,
    ),
    "tiered-imagenet": DataSet(
        tiered_imagenet,
        "608 classes of ImageNet, 779,165 pictures, 84×84 color; 351, 97 and 160 classes of different kinds",
        "ImageNet's terms: non-commercial research",
        "Ren et al. 2018, arXiv:1803.00676",
        add_tiered_imagenet,
    ),
    "cifar-fs": DataSet(
        cifar_fs,
        "CIFAR-100's classes × 600, 32×32 color; 64, 16 and 20 classes",
        "none stated: research use",
        "Bertinetto et al. 2019, arXiv:1805.08136; https://www.cs.toronto.edu/~kriz/cifar.html",
        add_cifar100,
    ),
    "fc100": DataSet(
        fc100,
        "CIFAR-100's classes × 600, 32×32 color; 60, 20 and 20 classes of different superclasses",
        "none stated: research use",
        "Oreshkin et al. 2018, arXiv:1805.10123; https://www.cs.toronto.edu/~kriz/cifar.html",
        add_cifar100,
    ),
    "cub": DataSet(
        cub,
        "200 birds, 11,788 pictures, 84×84 color; 100, 50 and 50 classes",
        "non-commercial research and education",
        "Wah et al. 2011; https://www.vision.caltech.edu/datasets/cub_200_2011",
        add_cub,
    ),
    "faces": DataSet(
        faces,
        "40 people × 10 photographs, 112×92 gray (ORL)",
        "credit to AT&T Laboratories Cambridge",
        "Samaria & Harter 1994; the Database of Faces",
        add_faces,
    ),
    "fewrel": DataSet(
        fewrel,
        "relations of two entities in a sentence: 16 × 700 of Wikipedia; also of PubMed, NYT, SemEval",
        "MIT (THUNLP)",
        "Han et al. 2018, Gao et al. 2019; https://github.com/thunlp/FewRel, folder data",
        add_fewrel,
    ),
    "clinc150": DataSet(
        clinc150,
        "150 intents × 150 questions to an assistant, and 1,200 out of scope",
        "CC BY 3.0",
        "Larson et al. 2019; https://github.com/clinc/oos-eval",
        add_clinc150,
    ),
    "banking77": DataSet(
        banking77,
        "77 intents, 13,083 questions to a bank",
        "CC BY 4.0",
        "Casanueva et al. 2020; https://github.com/PolyAI-LDN/task-specific-datasets",
        add_banking77,
    ),
    "hwu64": DataSet(
        hwu64,
        "64 intents, 11,036 commands to a home robot",
        "CC BY 4.0",
        "Liu et al. 2019; HWU64_full.jsonl of https://github.com/tdopierre/ProtAugment",
        add_hwu64,
    ),
    "huffpost": DataSet(
        huffpost,
        "41 sections of news × 900 headlines; 20, 5 and 16 sections",
        "none stated: research use",
        "Misra 2022; huffpost.json of https://github.com/ws-jiang/MetaPrompter_public",
        add_huffpost,
    ),
    "tox21": DataSet(
        tox21,
        "molecules: 12 assays of toxicity, 7,831 molecules; 9 assays to train on (7 and 2), 3 to test",
        "public domain (US government); this file BSD-3",
        "Wu et al. 2018, arXiv:1703.00564; data/tox21.csv.gz of https://github.com/oxpig/topological-pretraining",
        add_tox21,
    ),
    "sider": DataSet(
        sider,
        "molecules: 27 kinds of side effects of 1,427 drugs; 21 to train on (18 and 3), 6 to test",
        "CC BY-NC-SA 4.0 (SIDER)",
        "Kuhn et al. 2016; sider.csv of MoleculeNet, https://github.com/zhichunguo/Meta-MGNN",
        add_sider,
    ),
    "fsmol": DataSet(
        fsmol,
        "molecules: 4,935, 39 and 157 assays of ChEMBL, active or not, or the value measured",
        "CC BY-SA 3.0",
        "Stanley et al. 2021; https://github.com/microsoft/FS-Mol",
        add_fsmol,
    ),
    "sinusoid": DataSet(Sinusoid, "regression: A·sin(x − φ)", "none needed", "Finn et al. 2017, arXiv:1703.03400"),
    "line": DataSet(Line, "regression: a·x + b", "none needed", "Finn et al. 2018, arXiv:1806.02817"),
}
"""Every data set by the name a spec gives it. Keyword arguments of `load` are its configuration."""
