"""The containers, as far as they can be checked without an engine: form, paths, and the steps."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.machine_values import HostPort
from hub.metrics import Exporter
from hub.resolving import make_config
from hub.scrape import MetricsServer
from tests.deploy.containerfile import Step, read_stages
from tests.hub.listening import directory, make_arena

ROOT = Path(__file__).parents[2]
HERE = ROOT / "deploy" / "containers"
COMPOSE = HERE / "compose.yaml"
CONTAINERFILE = HERE / "Containerfile"
HOME = "/opt/tuttihub"
PYTHON = ".venv/bin/python"


def compose() -> dict[str, Any]:
    return read(COMPOSE)


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def by_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Judged by the compose specification's own schema, as check-jsonschema brings it."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_compose_file_is_what_the_specification_asks_for(tmp_path: Path) -> None:
    done = by_schema(COMPOSE)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("cap_drop:", "cap_dorp:"))
    assert "cap_dorp" in by_schema(wrong).stdout, "a mistake would not be noticed"


def test_all_that_is_mounted_or_built_is_there() -> None:
    described = compose()
    hub = described["services"]["hub"]["build"]
    assert (HERE / hub["context"]).resolve() == ROOT
    assert (ROOT / hub["dockerfile"]) == CONTAINERFILE
    for name, service in described["services"].items():
        for volume in service["volumes"]:
            source, target, *mode = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (HERE / source).resolve().is_dir(), f"{name}: {source}"
                assert mode == ["ro"], f"{name} could write to {source}"
            else:
                assert source in described["volumes"]


def test_grafana_is_provisioned_by_file_from_what_prometheus_scrapes() -> None:
    services = compose()["services"]
    provisioning = services["grafana"]["environment"]["GF_PATHS_PROVISIONING"]
    (folder,) = [v.split(":")[1] for v in services["grafana"]["volumes"] if v.startswith(".")]
    here = ROOT / "deploy" / "grafana" / Path(provisioning).relative_to(folder)
    (source,) = read(here / "datasources" / "prometheus.yml")["datasources"]
    (listen,) = [a for a in services["prometheus"]["command"] if "listen-address" in a]
    assert source["url"] == f"http://{listen.partition('=')[2]}"
    (provider,) = read(here / "dashboards" / "tuttihub.yml")["providers"]
    inside = Path(provider["options"]["path"]).relative_to(folder)
    boards = (ROOT / "deploy" / "grafana" / inside).rglob("*.json")
    assert {board.stem for board in boards} == {"fleet", "hub", "musician"}


def test_prometheus_finds_its_rules_and_scrapes_where_a_hub_serves_by_default() -> None:
    service = compose()["services"]["prometheus"]
    (config,) = [Path(a.partition("=")[2]) for a in service["command"] if "config.file" in a]
    (mounted,) = [v.split(":") for v in service["volumes"] if v.startswith(".")]
    here = HERE / mounted[0] / config.relative_to(mounted[1])
    described = read(here)
    for rules in described["rule_files"]:
        assert (here.parent / rules).is_file()
    (job,) = described["scrape_configs"]
    assert job["static_configs"] == [{"targets": [str(make_config().metrics)]}]


def test_nothing_is_privileged_or_open_but_the_hub() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        assert "@" in service["image"] or ":" in service["image"] or "build" in service, name
    services = compose()["services"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert {"rtprio": 20, "memlock": -1}.items() <= services["hub"]["ulimits"].items()


@pytest.fixture(scope="module")
def stages() -> list[list[Step]]:
    return read_stages(CONTAINERFILE)


def ignored(path: str) -> bool:
    """Whether the ignore file keeps this out of the build."""
    patterns = Path(f"{CONTAINERFILE}.dockerignore").read_text().split()
    parts = [path, *map(str, Path(path).parents)]
    return any(
        fnmatch.fnmatch(part, pattern) or fnmatch.fnmatch(f"/{part}", pattern.replace("**", "*"))
        for part in parts
        for pattern in patterns
    )


def test_the_image_is_unprivileged_and_has_no_jack(stages: list[list[Step]]) -> None:
    build, final = stages
    for stage in (build, final):
        users = [step.text for step in stage if step.name == "USER"]
        assert users == ["tuttihub"]
    assert "jack" not in CONTAINERFILE.read_text().replace("JACK", "", 1)
    assert [step.words for step in final if step.name in ("ENTRYPOINT", "CMD")] == [
        ["tuttihub"],
        ["serve"],
    ]
    # what the last stage takes from the first was made there, by the same user
    assert build[1].text.partition("&&")[0] == final[1].text.partition("&&")[0]
    taken = [step.words[0] for step in final if step.name == "COPY"]
    assert taken == [HOME, "/var/cache/tuttihub"]


@pytest.mark.living
def test_its_steps_work_in_a_clean_root(stages: list[list[Step]], tmp_path: Path) -> None:
    """What is copied is all that the hub needs, in the right order; its commands do work.

    The network's part (pip) is only looked at, and the interpreter is this one.
    """
    root = tmp_path / "root"
    root.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ran = []
    for step in stages[0]:
        match step.name, step.words:
            case "COPY", [*sources, to]:
                for source in sources:
                    assert not ignored(source), source
                    copy(source, root / to)
            case "RUN", [program, "-m", "pip", "install", *arguments]:
                assert program == PYTHON
                for k, argument in enumerate(arguments):
                    if argument in ("-r", "--editable"):
                        assert (root / arguments[k + 1]).exists(), f"not yet copied: {argument}"
                ran.append("pip")
            case "RUN", [program, *arguments] if program == PYTHON:
                # imports of the checkout, whose kernels are compiled: here only whether it works
                done = subprocess.run(
                    [sys.executable, *arguments], cwd=root, timeout=300, check=False
                )
                assert done.returncode == 0
                ran.append(arguments[-1])
    assert ran == ["pip", "pip", "workers.warm"]

    code = (
        "import hub.server, hub.top.app, workers.zygote, sys\n"
        "from hub.cli import main\n"
        "assert all(m.__file__.startswith(sys.argv[2])\n"
        "           for n, m in sys.modules.items() if n in ('hub', 'workers', 'shared'))\n"
        "main()"
    )
    imported = subprocess.run(
        [sys.executable, "-P", "-c", code, "--version", str(root)],
        cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr


def copy(source: str, to: Path) -> None:
    """As the builder does: a folder's content, or a file into a folder; nothing ignored."""
    origin = ROOT / source
    if origin.is_dir():
        shutil.copytree(
            origin,
            to,
            ignore=lambda folder, names: {
                name for name in names if ignored(str((Path(folder) / name).relative_to(ROOT)))
            },
        )
    else:
        to.mkdir(exist_ok=True)
        shutil.copy2(origin, to)


def test_the_health_check_tells_the_healthy_from_the_rest(stages: list[list[Step]]) -> None:
    (step,) = [step for step in stages[1] if step.name == "HEALTHCHECK"]
    word, _, command = step.text.partition(" ")
    assert word == "CMD"
    program, *arguments = Step("CMD", (), command).words
    assert program == "python"

    def check(port: int) -> int:
        default = make_config().metrics
        assert default is not None
        told = [argument.replace(f":{default.port}/", f":{port}/") for argument in arguments]
        assert told != arguments
        return subprocess.run(
            [sys.executable, *told], stderr=subprocess.DEVNULL, timeout=30, check=False
        ).returncode

    server = MetricsServer(HostPort("127.0.0.1", 0), Exporter(make_arena(), directory()))
    server.start()
    assert check(server.port) == 0
    server.close()
    assert check(server.port) != 0, "nobody is there"
