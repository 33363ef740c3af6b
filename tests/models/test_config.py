import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from clbench.errors import ConfigError
from clbench.models.config import HeadKind, ModelConfig


def test_width_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model.width must be >= 1, got 0$"):
        ModelConfig(width=0)


def test_pretrained_and_checkpoint_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"exclude each other, got pretrained=true and checkpoint=a\.pth"):
        ModelConfig(pretrained=True, checkpoint=Path("a.pth"))


def test_it_is_a_structured_config() -> None:
    given = OmegaConf.from_dotlist(["name=resnet18", "head=COSINE", "checkpoint=/a/b.pth", "width=20"])
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), given))
    assert config == ModelConfig("resnet18", Path("/a/b.pth"), head=HeadKind.COSINE, width=20)


def test_config_imports_no_torch_and_building_an_own_backbone_no_timm() -> None:
    code = (
        "import sys; from clbench.models.config import ModelConfig; assert 'torch' not in sys.modules;"
        "from clbench.models.build import build_backbone;"
        "build_backbone(ModelConfig(), (1, 8, 8), 'small_cnn'); assert 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
