"""Feature networks by path: our judge, a TorchXRayVision DenseNet, and what does not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.judge import JUDGE_JSON, JUDGE_WEIGHTS, Judge, JudgeConfig
from llmcxr_training.evaluation.extractors import load_extractor
from llmcxr_training.evaluation.settings import ExtractorSettings
from llmcxr_training.feature_networks import XRV_RANGE, XRV_SIDE, XrvFeatures, load_feature_network

CPU = torch.device("cpu")

# What the package offers, made small: the names of its layers and of its classes are the real ones.
PACKAGE = """
from collections import OrderedDict
from torch import nn

class _DenseBlock(nn.Sequential):
    pass

class DenseNet(nn.Module):
    def __init__(self, num_classes=18, in_channels=1):
        super().__init__()
        self.features = nn.Sequential(OrderedDict(
            conv0=nn.Conv2d(in_channels, 4, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(4),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, 2, 1),
            denseblock1=_DenseBlock(nn.Conv2d(4, 6, 3, 2, 1)),
            norm5=nn.BatchNorm2d(6),
        ))
        self.classifier = nn.Linear(6, num_classes)
"""


@pytest.fixture
def xrv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of that name; the real one brings torchvision."""
    folder = tmp_path / "site" / "torchxrayvision"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "models.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(folder.parent)
    for name in ("torchxrayvision", "torchxrayvision.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import torchxrayvision.models

    yield torchxrayvision.models
    for name in ("torchxrayvision", "torchxrayvision.models"):
        sys.modules.pop(name)


def write_judge(folder: Path) -> Judge:
    judge = Judge(JudgeConfig(("Edema",), input_size=32, widths=(8, 8), norm_groups=4))
    folder.mkdir()
    save_file(judge.state_dict(), folder / JUDGE_WEIGHTS)
    (folder / JUDGE_JSON).write_text(json.dumps({"judge": judge.config.to_dict()}))
    return judge


def test_a_judge_is_a_folder(tmp_path: Path) -> None:
    judge = write_judge(tmp_path / "judge")
    network = load_feature_network(tmp_path / "judge", CPU)
    pixels = torch.rand(2, 1, 32, 32, requires_grad=True)
    for one, other in zip(network.maps(pixels), judge.eval().maps(pixels), strict=True):
        torch.testing.assert_close(one, other)
    network.maps(pixels)[-1].sum().backward()
    assert pixels.grad is not None


@pytest.mark.parametrize("kind", ["state.pt", "module.pt", "weights.safetensors"])
def test_a_densenet_is_a_file(kind: str, tmp_path: Path, xrv: ModuleType) -> None:
    densenet = xrv.DenseNet().eval()
    path = tmp_path / kind
    if kind == "module.pt":
        torch.save(densenet, path)
    elif kind == "state.pt":
        torch.save(densenet.state_dict(), path)
    else:
        save_file(densenet.state_dict(), path)
    network = load_feature_network(path, CPU)
    pixels = torch.rand(2, 3, XRV_SIDE, XRV_SIDE, requires_grad=True)
    shallow, deep = network.maps(pixels)
    assert shallow.shape == (2, 4, 56, 56)
    expected = densenet.features[:5](XRV_RANGE * pixels.mean(dim=1, keepdim=True))
    torch.testing.assert_close(deep, expected)
    deep.sum().backward()
    assert pixels.grad is not None
    assert not any(p.requires_grad for p in network.parameters())


def test_pictures_are_scaled_for_a_densenet(xrv: ModuleType) -> None:
    network = XrvFeatures(xrv.DenseNet())
    assert network.maps(torch.zeros(1, 1, 256, 256))[0].shape[-1] == 56


def test_vectors_for_distances(tmp_path: Path, xrv: ModuleType) -> None:
    densenet = xrv.DenseNet().eval()
    save_file(densenet.state_dict(), tmp_path / "weights.safetensors")
    settings = ExtractorSettings(kind="xrv", path=tmp_path / "weights.safetensors")
    extractor = load_extractor(settings, CPU)
    assert extractor is not None
    assert extractor.name == "xrv"
    pixels = torch.rand(2, 1, XRV_SIDE, XRV_SIDE)
    expected = densenet.features(XRV_RANGE * pixels).relu().mean(dim=(-2, -1))
    torch.testing.assert_close(extractor.features(pixels), expected)


def test_other_classes_are_not_built(tmp_path: Path, xrv: ModuleType) -> None:
    torch.save(Path("anything"), tmp_path / "other.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 no weights")
    torch.save({"features.conv0.weight": torch.zeros(1)}, tmp_path / "small.pt")
    for name in ("other.pt", "damaged.pt", "small.pt", "missing.pt"):
        with pytest.raises(InvalidCheckpoint):
            load_feature_network(tmp_path / name, CPU)
    with pytest.raises(InvalidCheckpoint):
        XrvFeatures(nn.Module())


def test_without_the_package_it_says_so(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(InvalidCheckpoint, match="torchxrayvision"):
        load_feature_network(tmp_path / "weights.pt", CPU)
