"""Configurations in the manner of real ones, each with exactly the findings that its lines announce.

A line of the corpus that ends with ``#! rule rule`` has these findings, and no other line has any. In a file's first
lines, ``#: NAME = VALUE`` is an option of the bridge, ``#: --nginx-version V`` one of the check, ``#: nginx refuses`` says
that Nginx does not take the file, and ``#: nginx is another`` that one of some other version or with other modules does.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from uwsgibridge.cli.nginx import command
from uwsgibridge.frontend.binary import choose_nginx
from uwsgibridge.frontend.check.checking import SYNTAX, load_rules
from uwsgibridge.frontend.check.finding import RULES

CORPUS: Final = Path(__file__).parent / "corpus"
CASES: Final = sorted([*CORPUS.glob("*.conf"), *CORPUS.glob("*/nginx.conf")])
_MARK: Final = re.compile(r"#! (.+)$")
_HEAD: Final = re.compile(r"^#: (.+)$", re.MULTILINE)
_LISTEN: Final = re.compile(r"\blisten (?:\[::\]:)?(\d+)")
_HOST: Final = re.compile(r"\b(?:web|app)(:\d+)")


def name_of(case: Path) -> str:
    return case.parent.name if case.name == "nginx.conf" else case.stem


def files_of(case: Path) -> list[Path]:
    if case.name != "nginx.conf":
        return [case]
    return sorted(path for path in case.parent.rglob("*") if path.is_file())


def announced(case: Path) -> dict[str, list[str]]:
    """What a case has to find: the rules for each place."""
    found = {}
    for path in files_of(case):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if mark := _MARK.search(line):
                found[f"{path.relative_to(CORPUS)}:{number}"] = sorted(mark[1].split())
    return found


def heads(case: Path) -> list[str]:
    return _HEAD.findall(case.read_text())


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_configuration_has_the_findings_that_it_announces(case: Path, tmp_path: Path) -> None:
    options = [head for head in heads(case) if not head.startswith(("nginx ", "--"))]
    config = tmp_path / "uwsgibridge.toml"
    config.write_text("\n".join(options))
    arguments = ["--check", str(case), "--config", str(config), "--format", "json"]
    for head in heads(case):
        if head.startswith("--"):
            arguments += head.split()
    if case.name != "nginx.conf":
        arguments += ["--prefix", str(CORPUS)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    (report,) = json.loads(result.stdout)["files"]
    found = defaultdict(list)
    for finding in report["findings"]:
        place = Path(finding["file"]).resolve().relative_to(CORPUS)
        found[f"{place}:{finding['line']}"].append(finding["rule"])
        assert finding["reason"]
        assert finding["write"]
    assert {place: sorted(rules) for place, rules in found.items()} == announced(case)
    has_error = any(it["severity"] == "error" for it in report["findings"])
    assert result.exit_code == (1 if has_error else 0)


def test_the_corpus_is_large_and_has_each_rule() -> None:
    load_rules()
    assert len(CASES) >= 60
    seen = {rule for case in CASES for rules in announced(case).values() for rule in rules}
    assert seen == {
        *RULES,
        SYNTAX,
    }  # `probe` needs a running Nginx: integration/test_nginx_probe.py


@pytest.fixture(scope="module")
def nginx() -> Path:
    return choose_nginx().path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    pair = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", pair[1], "-out", pair[0]],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return pair


def accepted(
    case: Path, tmp_path: Path, certificate: tuple[Path, Path], nginx: Path
) -> subprocess.CompletedProcess[str]:
    """Let Nginx test a copy of a case: on sockets instead of ports, with addresses instead of names."""
    root = tmp_path / "conf"
    root.mkdir()
    shutil.copy(CORPUS / "uwsgi_params", root)
    for file in files_of(case):
        path = root / file.relative_to(case.parent)
        path.parent.mkdir(exist_ok=True)
        text = _LISTEN.sub(rf"listen unix:{tmp_path}/\1.sock", file.read_text())
        text = _HOST.sub(r"127.0.0.1\1", text)
        text = re.sub(r"^user .*|^pid .*", "", text, flags=re.MULTILINE)
        text = text.replace("keys_zone=", "use_temp_path=off keys_zone=")
        for name, pem in zip(("cert.pem", "key.pem"), certificate, strict=True):
            text = text.replace(f" {name};", f" {pem};")
        path.write_text(text)
    main = root / case.name
    if case.name != "nginx.conf":
        is_location = "server {" not in main.read_text()
        inner = f"server {{ include {main}; }}" if is_location else f"include {main};"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
        main = root / "nginx.conf"
        main.write_text(f"events {{}} http {{ access_log off; {paths} {inner} }}")
    else:
        (tmp_path / "logs").mkdir()
    return subprocess.run(
        [nginx, "-t", "-q", "-e", "stderr", "-p", tmp_path, "-c", main,
         "-g", f"pid {tmp_path}/nginx.pid;"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize(
    "case", [it for it in CASES if "nginx is another" not in heads(it)], ids=name_of
)
def test_nginx_takes_what_the_corpus_says_it_takes(
    case: Path, tmp_path: Path, certificate: tuple[Path, Path], nginx: Path
) -> None:
    done = accepted(case, tmp_path, certificate, nginx)
    if "nginx refuses" in heads(case):
        assert done.returncode != 0
    else:
        assert "[emerg]" not in done.stderr, done.stderr
        assert done.returncode == 0
