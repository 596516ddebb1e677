"""The command in a real process: what it prints, writes and returns; the page stands alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from haversack.convert import diagnose
from haversack.convert.diagnosis import Diagnosis
from haversack.convert.doctor import told
from haversack.convert.doctor.page import page
from haversack.convert.report import decode, encode


def haversack(*words, cwd):
    code = "import sys; from haversack.convert.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True, text=True, cwd=cwd, timeout=300, env=dict(os.environ), check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(concat) -> Diagnosis:
    return diagnose(concat.model, calibration=concat.calibration, evaluation=concat.evaluation)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_a_page_needs_nothing_else_and_has_plots_of_each_layer(found) -> None:
    text = page(found)
    parsed = Page()
    parsed.feed(text)
    assert not parsed.open
    assert not parsed.links
    assert "script" not in parsed.tags
    assert "http" not in text
    assert "url(" not in text
    assert parsed.tags.count("svg") >= 3 * len(found.layers)
    assert all(f"<code>{layer.name}</code>" in text for layer in found.layers)
    assert "branch_large" in text


def test_names_from_a_model_cannot_break_the_page(found) -> None:
    import dataclasses

    layer = dataclasses.replace(found.layers[0], name="<script>alert(1)</script>")
    parsed = Page()
    parsed.feed(page(dataclasses.replace(found, layers=(layer,))))
    assert "script" not in parsed.tags


def test_what_is_told_fits_a_screen(found) -> None:
    lines = told.text(found).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("concat as int8: 98.9 % → ")


def test_it_goes_to_json_and_back(found) -> None:
    assert decode(Diagnosis, json.loads(json.dumps(encode(found), allow_nan=False))) == found


@pytest.mark.slow
def test_the_command_writes_plan_and_page_and_what_it_says_next_works(concat, tmp_path) -> None:
    done = haversack(
        "doctor", concat.model, "--calibration", concat.calibration, "--evaluation", concat.evaluation,
        "--plan", "repaired.json", "--report", "report.html", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "shared scale: join (Concat)" in done.stdout
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (command,) = [line for line in done.stdout.splitlines() if line.strip().startswith("$ haversack convert")]
    words = command.split()[2:]
    made = haversack(*words, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "concat.tflite").exists()
    again = haversack(
        "doctor", concat.model, "--calibration", concat.calibration, "--plan", "repaired.json", cwd=tmp_path
    )
    assert again.returncode == 2
    assert "repaired.json" in again.stderr


@pytest.mark.slow
def test_json_holds_the_same_facts_and_a_healthy_model_writes_no_plan(digits, tmp_path) -> None:
    done = haversack(
        "doctor", digits.model, "--calibration", digits.calibration, "--evaluation", digits.evaluation, "--json",
        "--plan", "repaired.json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["healthy"] is True
    assert facts["before"]["samples"] == 540
    assert not (tmp_path / "repaired.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compress", "int8"], "--calibration DATA"),
        (["--compress", "int9", "--calibration", "c.npz"], "int9"),
        (["--calibration", "nowhere.npz"], "no such data"),
    ],
)
def test_what_cannot_be_meant_is_one_line(digits, tmp_path, words, said) -> None:
    done = haversack("doctor", digits.model, *words, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_the_command_line_imports_no_numpy() -> None:
    code = "import haversack.convert.cli.doctor, haversack.convert.doctor.page, sys; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
