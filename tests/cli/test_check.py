"""`haversack check`: budgets, baselines, and what cannot be meant, on bundles written for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from haversack.convert.budget_file import KEYS, read_budget
from haversack.convert.bundle import NewVariant, write_bundle
from haversack.convert.checking import check
from haversack.convert.errors import UsageError
from haversack.convert.measured import Accuracy
from haversack.convert.report import BudgetCheck, encode
from haversack.runtimes.manifest import Provenance, Tensor
from haversack.runtimes.measurements import Latency, Measurements, VariantMeasurements

from .conftest import haversack

Write = Callable[..., Path]

ACCURACY = Accuracy(0.91, 0.90, 0.92, 1000, -0.004, -0.012, 0.004)
LATENCY = Latency("litert", "aarch64, 4 cores, Linux", 1, 100, 1.5, 2.0, 3.0)

DESKTOP = dataclasses.replace(LATENCY, machine="x86_64, 2 cores", p50_ms=0.5)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a bundle whose variants are given as id=(bytes, brotli bytes, accuracy, latencies)."""

    def written(name: str, evaluation: str = "e" * 64, **variants: Any) -> Path:
        entries, measured = [], {}
        for key, (size, brotli, accuracy, latencies) in variants.items():
            target, compression = key.split("_")
            artifact = tmp_path / f"{key}.{'tflite' if target == 'tflite' else 'onnx'}"
            artifact.write_bytes(key.encode().ljust(size, b"."))
            edge = Tensor("x", "float32", (1, 2))
            entries.append(
                NewVariant(
                    id=f"{target}-{compression}",
                    target=target,
                    compression=compression,
                    artifact=artifact,
                    inputs=(edge,),
                    outputs=(edge,),
                    verified=compression != "fp16",
                )
            )
            measured[f"{target}-{compression}"] = VariantMeasurements(
                accuracy=None if accuracy is None else accuracy.value,
                latencies=tuple(latencies),
                facts={"gzip_bytes": size - 1, "brotli_bytes": brotli, "accuracy": encode(accuracy)},
            )
        path = tmp_path / f"{name}.haversack"
        write_bundle(
            path, name="m", inputs=[edge], outputs=[edge], variants=entries,
            provenance=Provenance("m.onnx", "onnx", "0" * 64, {}, evaluation="eval", evaluation_sha256=evaluation),
            measurements=Measurements("", "here", measured),
        )  # fmt: skip
        return path

    return written


@pytest.fixture
def two(write: Write) -> Path:
    return write(
        "two",
        tflite_fp32=(3000, 2000, ACCURACY, [LATENCY]),
        tflite_int8=(
            1000,
            800,
            ACCURACY,
            [LATENCY, dataclasses.replace(LATENCY, machine="x86_64, 2 cores", p50_ms=0.5)],
        ),
        onnx_fp16=(1500, None, None, []),
    )


def budget(folder: Path, text: str) -> Path:
    path = folder / "budget.toml"
    path.write_text(text, encoding="utf-8")
    return path


def rows(found: BudgetCheck) -> list[tuple[str, str, str, bool]]:
    return [(row.subject, row.variant, row.judgement.budget, row.judgement.met) for row in found.rows]


def test_the_command_exits_by_the_budget(two: Path) -> None:
    asked = budget(two.parent, '[tflite]\nmax_bytes = "1.2 KB"\nmax_drop = 1\nverified = true\n')
    done = haversack("check", two, "--budget", asked)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:3] for line in done.out.splitlines()] == [
        ["ok", "tflite-int8", "max_drop"], ["ok", "tflite-int8", "max_bytes"], ["ok", "tflite-int8", "verified"]
    ]  # fmt: skip
    tight = budget(two.parent, "[tflite]\nmax_bytes = 999\nmax_drop = 1\n")
    done = haversack("check", two, "--budget", tight, "--json")
    assert done.code == 1
    said = json.loads(done.out)
    assert said["met"] is False
    assert said["rows"][1]["judgement"] == {
        "budget": "max_bytes", "met": False, "allowed": "999 bytes", "measured": "1,000 bytes", "limit": 999,
        "value": 1000,
    }  # fmt: skip
    wrong = haversack("check", two, "--budget", budget(two.parent, "max_byte = 1\n"))
    assert wrong.code == 2
    assert f"unknown key 'max_byte'; known are {', '.join(KEYS)}" in wrong.line


def test_damaged_bundles_and_missing_files_are_one_line(two: Path) -> None:
    asked = budget(two.parent, "max_bytes = 1\n")
    content = bytearray(two.read_bytes())
    content[content.index(b"tflite_int8.") + 300] ^= 1
    two.write_bytes(content)
    damaged = haversack("check", two, "--budget", asked)
    assert damaged.code != 0
    assert "damaged" in damaged.line
    assert haversack("check", two.parent / "none.haversack", "--budget", asked).code == 2
    assert haversack("check", two, "--budget", two.parent / "none.toml").code == 2


def test_what_is_asked_of_all_is_asked_of_every_target(two: Path) -> None:
    found = check(two, budget=budget(two.parent, "verified = true\nmax_bytes = 2000\n"))
    assert rows(found) == [
        ("tflite", "tflite-int8", "max_bytes", True),
        ("tflite", "tflite-int8", "verified", True),
        ("onnx", "onnx-fp16", "max_bytes", True),
        ("onnx", "onnx-fp16", "verified", False),
    ]


def test_a_targets_lines_stand_on_top_of_all_and_replace_them(two: Path) -> None:
    found = check(two, budget=budget(two.parent, "max_bytes = 100\nmax_gzip = 5000\n[ort]\nmax_bytes = 1500\n"))
    assert rows(found) == [
        ("onnx", "onnx-fp16", "max_bytes", True),
        ("onnx", "onnx-fp16", "max_gzip", True),
        ("tflite", "tflite-int8", "max_bytes", False),
        ("tflite", "tflite-int8", "max_gzip", True),
    ]


def test_a_variants_lines_are_about_it_alone(two: Path) -> None:
    found = check(two, budget=budget(two.parent, "[tflite-fp32]\nmax_bytes = 2000\nmax_wire = 2000\n"))
    assert rows(found) == [
        ("tflite-fp32", "tflite-fp32", "max_bytes", False),
        ("tflite-fp32", "tflite-fp32", "max_wire", True),
    ]


@pytest.mark.parametrize("subject", ["coreml", "tflite-int4-weights"])
def test_what_the_bundle_lacks_is_a_budget_not_met(two: Path, subject: str) -> None:
    found = check(two, budget=budget(two.parent, f"[{subject}]\nverified = true\n"))
    assert rows(found) == [(subject, "", "present", False)]
    assert not found.met


def test_what_was_not_measured_is_not_met(two: Path) -> None:
    asked = "max_wire = 10_000_000\nmax_drop = 99\nmax_latency_ms = 1e6\nmin_accuracy = 0\n"
    found = check(two, budget=budget(two.parent, f"[onnx]\n{asked}"))
    assert [met for *_, met in rows(found)] == [False] * 4


def test_accuracy_by_the_number_or_by_its_bound(two: Path) -> None:
    assert check(two, budget=budget(two.parent, "[tflite]\nmax_drop = 1.0\nmin_accuracy = 0.91\n")).met
    assert not check(two, budget=budget(two.parent, "[tflite]\nmax_drop = 1.0\nconfident = true\n")).met
    assert check(two, budget=budget(two.parent, "[tflite]\nmax_drop = 1.2\nconfident = true\n")).met


def test_latencies_name_their_machine_and_may_ask_for_one(two: Path) -> None:
    found = check(two, budget=budget(two.parent, "[tflite-int8]\nmax_latency_ms = 0.6\n"))
    assert found.met
    assert found.rows[0].judgement.measured == "500 µs on x86_64, 2 cores"
    found = check(two, budget=budget(two.parent, '[tflite-int8]\nmax_latency_ms = 0.6\nmachine = "aarch64"\n'))
    assert not found.met
    assert found.rows[0].judgement.measured == "1.5 ms on aarch64, 4 cores, Linux"
    found = check(two, budget=budget(two.parent, '[tflite-int8]\nmax_latency_ms = 9\nmachine = "riscv"\n'))
    assert found.rows[0].judgement.measured == "no latency measured on riscv"


def test_growth_against_a_baseline(two: Path, write: Write) -> None:
    better = dataclasses.replace(ACCURACY, value=0.914)
    old = write("old", tflite_int8=(900, 800, better, [dataclasses.replace(LATENCY, p50_ms=1.4)]))
    common = '[tflite-int8]\nmachine = "aarch64"\n'
    loose = budget(two.parent, f"{common}max_growth_percent = 12\nmax_accuracy_loss = 0.4\nmax_latency_ratio = 1.1\n")
    assert check(two, budget=loose, baseline=old).met
    tight = budget(two.parent, f"{common}max_growth_percent = 11\nmax_accuracy_loss = 0.3\nmax_latency_ratio = 1.05\n")
    found = check(two, budget=tight, baseline=old)
    assert [met for *_, met in rows(found)] == [False] * 3
    assert [row.judgement.value for row in found.rows] == pytest.approx([100 / 9, 0.4, 1.5 / 1.4])
    with pytest.raises(UsageError, match="--baseline"):
        check(two, budget=tight)
    assert haversack("check", two, "--budget", tight).code == 2
    done = haversack("check", two, "--budget", tight, "--baseline", old)
    assert done.code == 1
    assert "1,000 bytes, were 900" in done.out


def test_what_cannot_be_compared_is_not_met(two: Path, write: Write) -> None:
    other = write("other", evaluation="f" * 64, tflite_int8=(1000, 800, ACCURACY, [LATENCY]))
    found = check(two, budget=budget(two.parent, "[tflite-int8]\nmax_accuracy_loss = 5\nmax_latency_ratio = 5\n"),
                  baseline=other)  # fmt: skip
    assert [row.judgement.met for row in found.rows] == [False, False]
    assert "different evaluation data" in found.rows[0].judgement.measured
    assert "measured on x86_64, 2 cores by litert" in found.rows[1].judgement.measured
    found = check(two, budget=budget(two.parent, "[tflite-fp32]\nmax_growth_percent = 5\n"), baseline=other)
    assert found.rows[0].judgement.measured == "the baseline has no such variant"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "asks nothing"),
        ("[tflite]\n", "asks nothing"),
        ("max_bytes = ", "not TOML"),
        ("max_bytes = true", "a number of bytes"),
        ("max_bytes = 1.5", "a number of bytes"),
        ('max_bytes = "60 pounds"', "is no size"),
        ('max_drop = "1"', "a number, zero or more"),
        ("max_drop = nan", "a number, zero or more"),
        ("max_drop = -1", "a number, zero or more"),
        ("confident = 1", "true or false"),
        ("machine = 3", "a machine's name in quotes"),
        ('[tflite]\nmachine = "here"', "give max_latency_ms too"),
        ("[android]\nmax_bytes = 1", "neither a target"),
        ("[tflite]\n[tflite.int8]\nmax_bytes = 1", "unknown key 'int8'"),
        ("[tflite]\nmax_speed = 1", r"\[tflite\] unknown key 'max_speed'; known are max_bytes"),
    ],
)
def test_a_budget_that_cannot_be_meant(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_budget(budget(tmp_path, text))


def test_facts_of_another_form_count_as_not_measured(write: Write) -> None:
    broken = dataclasses.replace(ACCURACY, value="high")  # type: ignore[arg-type]
    odd = write("odd", tflite_int8=(1000, 800, None, []))
    text = json.dumps(encode(broken))
    import zipfile

    with zipfile.ZipFile(odd) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["measurements.json"])
    document["variants"]["tflite-int8"]["facts"] |= {"accuracy": json.loads(text), "brotli_bytes": "few"}
    members["measurements.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(odd, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    found = check(odd, budget=budget(odd.parent, "max_drop = 1\nmax_wire = 900\n"))
    assert [row.judgement.value for row in found.rows] == [None, None]


def test_the_example_in_the_docs_is_a_budget(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    read = read_budget(budget(tmp_path, example))
    used = set(read.common) | {key for values in read.sections.values() for key in values}
    assert used | {"max_gzip"} == set(KEYS)
    assert read.section("tflite").budget.max_wire == 38_000
