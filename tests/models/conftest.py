"""What the tests of `llmcxr_models` share: DICOM files made on the spot, and a tiny checkpoint."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llmcxr_models.checkpoint import (
    TOKENIZER,
    VQGAN_WEIGHTS,
    Manifest,
    hash_files,
    write_manifest,
)
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.vocabulary import Vocabulary, image_token_name
from llmcxr_models.vqgan import VqGan, VqGanConfig

DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.1.1"
CODEBOOK = 32

MakeDicom = Callable[..., bytes]


@pytest.fixture(scope="session")
def make_dicom() -> MakeDicom:
    """A chest radiograph as DICOM bytes; keywords set attributes, None removes one."""
    return _make_dicom


def _make_dicom(
    stored: Any = None,
    *,
    syntax: str = ExplicitVRLittleEndian,
    bits: int = 12,
    allocated: int | None = None,
    signed: bool = False,
    shift: int = 0,
    pixel_vr: str | None = None,
    codestream: bytes | None = None,
    preamble: bool = True,
    **attributes: Any,
) -> bytes:
    if stored is None:
        stored = np.arange(40 * 36).reshape(40, 36) % 2**bits - (2 ** (bits - 1) if signed else 0)
    stored = np.asarray(stored)
    dataset = _header(stored, bits, allocated or (8 if bits <= 8 else 16), signed, shift, syntax)
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    words = (stored.astype(np.int64) & (2**bits - 1)) << shift
    raw = words.astype(f"{order}u{dataset.BitsAllocated // 8}").tobytes()
    raw += b"\0" * (len(raw) % 2)
    uid = UID(syntax)
    dataset.PixelData = raw
    vr = pixel_vr or ("OW" if dataset.BitsAllocated > 8 else "OB")
    dataset["PixelData"].VR = vr
    if vr == "OW" and dataset.BitsAllocated == 8 and order == ">":
        dataset.PixelData = np.frombuffer(raw, "<u2").astype(">u2").tobytes()
    if codestream is not None:
        dataset.PixelData = encapsulate([codestream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif uid.is_compressed and syntax != "1.2.840.10008.1.2.1.99":
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        plugin = {"encoding_plugin": "pydicom"} if uid == RLELossless else {}
        dataset.compress(uid, generate_instance_uid=False, **plugin)
    for keyword, value in attributes.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return _to_bytes(dataset, preamble)


def _header(
    stored: Any, bits: int, allocated: int, signed: bool, shift: int, syntax: str
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = UID(DIGITAL_XRAY)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    dataset.SOPClassUID = DIGITAL_XRAY
    dataset.SOPInstanceUID = "2.25.1"
    dataset.Modality = "DX"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientName = "Invented^Person"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = allocated, bits
    dataset.HighBit = bits - 1 + shift
    dataset.PixelRepresentation = int(signed)
    return dataset


def _to_bytes(dataset: Dataset, preamble: bool) -> bytes:
    buffer = io.BytesIO()
    uid = dataset.file_meta.TransferSyntaxUID
    if preamble:
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()
    del dataset.file_meta
    dataset.save_as(buffer, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def jpeg_baseline() -> tuple[str, Callable[[Any], bytes]]:
    """Transfer syntax UID and encoder of 8-bit JPEG."""
    from PIL import Image

    def encode(grey: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(grey, np.uint8)).save(buffer, "JPEG", quality=98)
        return buffer.getvalue()

    return JPEGBaseline8Bit, encode


# A few merges only, so that words are several tokens but common pieces are one.
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "a"), ("l", "u"), ("lu", "n"),
          ("lun", "g"), ("e", "r"), ("o", "r"), ("Ġ", "c"), ("r", "e"), ("<", "|")]  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of some hundred entries, with chat and image tokens as SmolLM2's has.

    Written down, not trained, so that its ids never change.
    """
    entries = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in MERGES)]
    tokenizer = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    chat = ("<|im_start|>", "<|im_end|>", "### End")
    names = [*chat, *(image_token_name(code) for code in range(CODEBOOK))]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def vocabulary(tokenizer_json: Path) -> Vocabulary:
    """Where the tiny tokenizer's image tokens are."""
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    return Vocabulary(
        size=tokenizer.get_vocab_size(with_added_tokens=True),
        image_offset=tokenizer.token_to_id(image_token_name(0)),
        codebook_size=CODEBOOK,
        image_length=16,
        stop_token_ids=(tokenizer.token_to_id("<|im_end|>"),),
    )


TINY = VqGanConfig(
    image_size=16,
    image_channels=1,
    base_channels=8,
    channel_multipliers=(1, 1, 2),
    res_blocks=1,
    attention_resolutions=(4,),
    latent_channels=8,
    codebook_dim=4,
    codebook_size=CODEBOOK,
    norm_groups=4,
)


@pytest.fixture
def vqgan() -> VqGan:
    """A tiny VQ-GAN with seeded weights: 16x16 pixels, 4x4 codes out of 32."""
    torch.manual_seed(1)
    model = VqGan(TINY)
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.5)
    return model.eval()


@pytest.fixture
def manifest(vocabulary: Vocabulary) -> Manifest:
    """The manifest of the tiny checkpoint, without files yet."""
    return Manifest(
        name="tiny",
        version="1",
        template="smollm2",
        vocabulary=vocabulary,
        vqgan=TINY,
        preprocessing=Preprocessing(geometry=Geometry.SQUASH, image_size=16, channels=1),
        views=("frontal",),
        max_model_len=128,
        files={},
        provenance={"data": "none"},
    )


@pytest.fixture
def checkpoint_path(tmp_path: Path, manifest: Manifest, vqgan: VqGan, tokenizer_json: Path) -> Path:
    """A whole checkpoint directory."""
    path = tmp_path / "checkpoint"
    (path / TOKENIZER).parent.mkdir(parents=True)
    (path / TOKENIZER).write_bytes(tokenizer_json.read_bytes())
    save_file(vqgan.state_dict(), path / VQGAN_WEIGHTS)
    values = manifest.to_dict() | {"files": hash_files(path)}
    write_manifest(path, Manifest.from_dict(json.loads(json.dumps(values))))
    return path
