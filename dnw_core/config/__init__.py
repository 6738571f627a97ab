"""All settings: of networks, rules, recipes and of how a trial is run. Plain pydantic models, free of torch."""

from dnw_core.config.base import TO_BE_TRAINED, Config, fingerprint, flatten
from dnw_core.config.budget import EdgeBudget, WidthLaw
from dnw_core.config.execution import Execution
from dnw_core.config.later_rules import (
    AcDcConfig,
    DropAndGrowConfig,
    EdgePopupConfig,
    GradualPruningConfig,
    RigLConfig,
    SetConfig,
    SnipConfig,
    SoftThresholdConfig,
    SparseMomentumConfig,
    TopKastConfig,
)
from dnw_core.config.networks import (
    CLASSIFIER_LAW,
    GRAPH_BLOCKS,
    GraphBlock,
    GraphMobileNetConfig,
    MobileNetV1Config,
    PointwiseLayer,
    TinyConfig,
    TinyContinuousConfig,
    TinyDiscreteConfig,
    TinyStaticConfig,
)
from dnw_core.config.ordinary_networks import (
    LightDenseNetConfig,
    LightXceptionConfig,
    MnasNetSmallConfig,
    MobileNetV2Config,
    OrdinaryNetworkConfig,
    ShuffleNetV1Config,
    ShuffleNetV2Config,
)
from dnw_core.config.recipe import (
    DATASET_IMAGES,
    STREAMED,
    CosineConfig,
    DataConfig,
    EpochCosineConfig,
    LinearConfig,
    OptimiserConfig,
    Precision,
    Recipe,
)
from dnw_core.config.registered import NETWORKS, RULES, NetworkConfig, WiringConfig, name_of
from dnw_core.config.residual_networks import BlockLayers, KernelLayer, ResidualConfig, ResNet50Config, WideResNetConfig
from dnw_core.config.retired import RETIRED_FIELDS
from dnw_core.config.rule_base import LayeredConfig, Layers, RankedConfig, RuleConfig, SparseConfig
from dnw_core.config.rules import (
    CompleteConfig,
    ConstantFanConfig,
    FixedRandomConfig,
    L1AnnealConfig,
    NoUpdateConfig,
    TargetedDropoutConfig,
    TopEdgesConfig,
)
