"""What picking the best of several drawn images changes, in the eyes of another judge.

Starts a service for a checkpoint that carries a judge, has radiographs drawn of val reports (never
test ones) with `n` of 1 and with `best_of`, and lets a judge that did not pick score both. Prints
the figures and writes docs/best-of.json. Resumable: what was drawn stays in `--work`.

    python scripts/best_of.py --checkpoint checkpoints/demo --judge runs/demo/judge

`--carry DIR` first gives a copy of the checkpoint, in `--work`, the judge of that folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from llmcxr_models.checkpoint import Checkpoint, read_manifest, sha256, write_manifest
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.judge import JUDGE_WEIGHTS, Judge
from llmcxr_models.picking import Picker
from llmcxr_service.client import AsyncClient
from llmcxr_service.demo import own_service
from llmcxr_service.schemas import ImageRequest
from llmcxr_service.settings import load_settings
from llmcxr_training.data import read_manifest as read_studies
from llmcxr_training.picking_judge import picking_judge

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("one", "best")


def carrying(args: argparse.Namespace) -> Path:
    """The checkpoint, or a copy of it that carries the judge; weights are linked, not copied."""
    if args.carry is None:
        return Path(args.checkpoint)
    target: Path = args.work / "checkpoint"
    manifest = read_manifest(args.checkpoint)
    picking, _ = picking_judge(args.carry, args.judge, manifest.preprocessing)
    if not target.exists():
        shutil.copytree(args.checkpoint, target, copy_function=os.link)
        (target / "manifest.json").unlink()
    (target / JUDGE_WEIGHTS).unlink(missing_ok=True)
    shutil.copyfile(args.carry / JUDGE_WEIGHTS, target / JUDGE_WEIGHTS)
    files = manifest.files | {JUDGE_WEIGHTS: picking.digest}
    write_manifest(target, replace(manifest, judge=picking.judge.config, files=files))
    return target


def prompts(manifest: Path, count: int, seed: int) -> list[str]:
    """Reports of frontal radiographs of val patients, each another one's."""
    studies = read_studies(manifest, splits=("val",))
    of_patient = {s.patient_id: s.report.text for s in studies if s.is_frontal and s.report.text}
    drawn = random.Random(seed).sample(sorted(of_patient), count)
    return [of_patient[patient] for patient in drawn]


async def draw(url: str, reports: Sequence[str], args: argparse.Namespace) -> None:
    """Draw what is not in the work folder yet, some reports at a time."""
    room = asyncio.Semaphore(args.at_once)

    async def one(client: AsyncClient, number: int, report: str) -> None:
        path = args.work / f"drawn-{args.best_of}-{number}.json"
        if path.exists():
            return
        request = ImageRequest(report=report, seed=args.seed + 1000 * number)
        async with room:
            alone = await client.image(request)
            best = await client.image(request.model_copy(update={"best_of": args.best_of}))
        codes = {"one": alone.images[0].codes, "best": best.images[0].codes}
        agreements = [c.agreement for c in best.candidates]
        path.write_text(json.dumps({**codes, "agreements": agreements}))

    async with AsyncClient(url, timeout_seconds=3600.0) as client:
        await asyncio.gather(*(one(client, i, report) for i, report in enumerate(reports)))


def figures(
    checkpoint: Checkpoint, reports: Sequence[str], args: argparse.Namespace
) -> dict[str, Any]:
    """How far both judges agree with the reports, for one image and for the best."""
    picking, measuring = checkpoint.load_judge(), Judge.load(args.judge)
    if picking is None or picking.is_same_as(measuring):
        raise SystemExit("the checkpoint has to carry a judge, and not the one that measures")
    tokenizer = ImageTokenizer(checkpoint.load_vqgan(), torch.device("cpu"))
    rows = []
    for number, report in enumerate(reports):
        path = args.work / f"drawn-{args.best_of}-{number}.json"
        if not path.exists():
            continue
        drawn = json.loads(path.read_text())
        pictures = list(tokenizer.decode(torch.tensor([drawn[key] for key in KEYS])))
        row: dict[str, list[float]] = {}
        for name, judge in (("picking", picking), ("measuring", measuring)):
            judged = Picker(judge).pick(report, pictures)
            # Both judge the same findings of the same prompt, so either both are None or none.
            row[name] = [round(judgement.agreement or 0.0, 4) for judgement in judged.judgements]
        rows.append(row)
    found: dict[str, Any] = {
        name: {key: _mean([row[name][i] for row in rows]) for i, key in enumerate(KEYS)}
        | {"prompts where the best is better": sum(r[name][1] > r[name][0] for r in rows)}
        for name in ("picking", "measuring")
    }
    return found | {"prompts": len(rows), "best_of": args.best_of, "rows": rows}


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True, help="folder of the one that measures")
    parser.add_argument("--carry", type=Path, help="folder of a judge to give to the checkpoint")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/cxr/manifest.jsonl")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--best-of", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=10, help="reports in work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=ROOT / "runs/best-of")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/best-of.json")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = carrying(args)
    checkpoint = Checkpoint.open(path)
    reports = prompts(args.data, args.prompts, args.seed)
    os.environ["LLMCXR_CHECKPOINT"] = str(path)
    with own_service(load_settings(), {}, Console()) as url:
        asyncio.run(draw(url, reports, args))
    found = {"model": checkpoint.manifest.served_name} | figures(checkpoint, reports, args)
    found["judges"] = {
        "picking": checkpoint.manifest.files[JUDGE_WEIGHTS],
        "measuring": sha256(args.judge / JUDGE_WEIGHTS),
    }
    args.output.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
