"""The images, built and run for real: headrace's own, and that of a project."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.cli.dockerfile import dockerfile_for
from headrace.embedded.launcher import EmbeddedPostgres
from tests.deploy.chart import render
from tests.deploy.containers import CONFINED, Container, Containers
from tests.deploy.tools import HERE, helm
from tests.support.curl import curl_lines, paste
from tests.support.keys import ROUTES, ask, check_route
from tests.support.processes import free_port
from tests.support.sources import ROOT

pytestmark = pytest.mark.deploy_tools

EXAMPLE = ROOT / "examples" / "own_graph"
GRAPHS = ROOT / "tests" / "support" / "graphs"
KEY = "key-of-this-test-5f0e3a1c9b77"
OPEN = {"HEADRACE_AUTH": "none"}


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    with tempfile.TemporaryDirectory(prefix="headrace-image-", ignore_cleanup_errors=True) as name:
        containers = Containers(Path(name))
        yield containers
        containers.remove()


@pytest.fixture(scope="module")
def headrace(containers: Containers) -> str:
    file = ROOT / "deploy" / "docker" / "Dockerfile"
    base = containers.base()
    return containers.built("localhost/headrace:test", ROOT, file=file, BASE=base)


@pytest.fixture(scope="module")
def titles(containers: Containers, headrace: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example's image."""
    file = tmp_path_factory.mktemp("titles") / "Dockerfile"
    file.write_text(dockerfile_for(EXAMPLE / "langgraph.json", image="headrace"))
    tag = "localhost/titles:test"
    tag = containers.built(tag, EXAMPLE, file=file, HEADRACE_IMAGE=headrace)
    print(containers.podman("images").stdout)
    return tag


@pytest.fixture(scope="module")
def database(containers: Containers, headrace: str) -> Iterator[str]:
    """A database on TCP, migrated by the image."""
    port = free_port()
    options = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with tempfile.TemporaryDirectory(prefix="headrace-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name) / "pg", durable=False, options=options):
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            done = containers.once(headrace, "db", "upgrade", DATABASE_URL=url)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("schema ")
            yield url


@pytest.fixture(scope="module")
def served(containers: Containers, titles: str, database: str) -> Iterator[tuple[Container, str]]:
    """The example's container and its address."""
    container, url = start(containers, titles, DATABASE_URL=database, **OPEN)
    yield container, url
    assert container.stop(seconds=60) == 0, container.log()


def start(
    containers: Containers, image: str, *options: str, **environment: str
) -> tuple[Container, str]:
    port = free_port()
    container = containers.create(image, *options, **{**environment, "HEADRACE_PORT": str(port)})
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    container.start()
    container.wait_ready(url)
    print(f"\n{image} ready after {time.monotonic() - started:.1f} s")
    return container, url


def test_the_projects_graph_answers(served: tuple[Container, str]) -> None:
    _, url = served
    (line,) = curl_lines((EXAMPLE / "README.md").read_text())
    reply = paste(line.replace("http://127.0.0.1:8123", url))["reply"]
    assert reply == "/creme-brulee (title 1, most of all about creme)"
    said = {"message": "Crème brûlée!", "thread_id": "menu"}
    with httpx.stream("POST", f"{url}/chat/stream", json=said, timeout=20) as response:
        lines = list(response.iter_lines())
    assert "event: end" in lines
    assert any("/creme-brulee (title 2" in line for line in lines)


def test_only_the_server_runs_and_the_server_is_process_one(
    served: tuple[Container, str],
) -> None:
    container, _ = served
    processes = container.processes()
    assert len(processes) == 3
    assert all("gunicorn" in process for process in processes), processes
    assert "gunicorn" in container.execute("cat", "/proc/1/cmdline").stdout


def test_its_health_is_told_without_curl(
    containers: Containers, headrace: str, served: tuple[Container, str]
) -> None:
    container, _ = served
    told = containers.podman("image", "inspect", "--format={{json .HealthCheck}}", headrace)
    kind, *command = json.loads(told.stdout)["Test"]
    assert kind == "CMD"
    assert container.execute(*command).returncode == 0
    assert container.execute("env", "HEADRACE_PORT=1", *command).returncode != 0


@pytest.mark.parametrize("which", ["headrace", "titles"])
def test_nobody_without_rights_and_without_tools(
    request: pytest.FixtureRequest, containers: Containers, which: str
) -> None:
    image = request.getfixturevalue(which)
    find_spec = "import importlib.util as u; print(*map(u.find_spec, ['pip', 'setuptools']))"
    script = (
        "id -u; command -v pip pip3 gcc cc make curl;"
        f' python -c "{find_spec}"; touch /app/x /run/headrace/x /tmp/x'
    )
    done = containers.podman("run", "--rm", "--entrypoint=sh", *CONFINED, image, "-c", script)
    assert done.stdout.splitlines() == ["10001", "None None"]
    assert done.stderr.splitlines() == ["touch: cannot touch '/app/x': Read-only file system"]


def test_without_a_database_it_says_so(containers: Containers, headrace: str) -> None:
    done = containers.once(headrace, HEADRACE_AUTH="none")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("HR303 ")


def test_by_default_it_is_not_served_to_strangers(
    containers: Containers, headrace: str, database: str
) -> None:
    done = containers.once(headrace, DATABASE_URL=database)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("HR205 ")


@pytest.mark.parametrize("defaults", ["image", "chart"])
def test_every_route_but_the_public_ones_asks_for_a_key(
    containers: Containers, headrace: str, database: str, defaults: str
) -> None:
    """As docs/image.md starts it, and with the variables of a pod of the chart's."""
    given = {"DATABASE_URL": database, "HEADRACE_API_KEYS": KEY}
    if defaults == "chart":
        given = variables_of_a_pod({"database-url": database, "api-keys": KEY})
    container, url = start(containers, headrace, **given)
    for method, route in ROUTES:
        if (defaults, route) == ("chart", "/metrics"):
            # There they have a port of their own, which no Service shows.
            assert ask(url + route, method).status_code == 404
        else:
            check_route(url, method, route, key=KEY)
    (line,) = curl_lines((ROOT / "docs" / "image.md").read_text())
    line = line.replace("http://127.0.0.1:8123", url)
    assert paste(line, HEADRACE_API_KEYS=KEY)["reply"].startswith("You said: Hello")
    assert container.stop(seconds=60) == 0, container.log()


def variables_of_a_pod(secrets: dict[str, str]) -> dict[str, str]:
    """Of the least values that the chart takes; what it reads of Secrets is in ``secrets``."""
    environment = render(helm(4), HERE / "values" / "secret.yaml").environment("Deployment")
    return {
        name: variable["value"]
        if "value" in variable
        else secrets[variable["valueFrom"]["secretKeyRef"]["key"]]
        for name, variable in environment.items()
    }


def test_a_stop_ends_an_open_stream_in_order(
    containers: Containers, headrace: str, database: str
) -> None:
    container, url = start(
        containers,
        headrace,
        f"--volume={GRAPHS}:/app:ro",
        DATABASE_URL=database,
        HEADRACE_SERVER__GRACE_SECONDS="2",
        **OPEN,
    )
    run = {"assistant_id": "slow", "input": {"seconds": 30}, "stream_mode": ["custom"]}
    with httpx.stream("POST", f"{url}/runs/stream", json=run, timeout=60) as response:
        lines = response.iter_lines()
        assert any("step" in line for line in lines)
        started = time.monotonic()
        code = container.stop(seconds=60)
        seconds = time.monotonic() - started
    print(f"\nstopped with an open stream in {seconds:.1f} s")
    assert code == 0, container.log()
    assert seconds < 20


def test_a_requirement_that_breaks_headrace_ends_the_build(
    containers: Containers, headrace: str, tmp_path: Path
) -> None:
    project = copy_of_example(tmp_path)
    (project / "requirements.txt").write_text("langchain-core<1\n")
    done = containers.build("localhost/broken:test", project, HEADRACE_IMAGE=headrace)
    assert done.returncode != 0
    assert "The user requested (constraint) langchain-core==" in done.stdout + done.stderr


def test_secrets_cannot_get_into_an_image(
    containers: Containers, headrace: str, tmp_path: Path
) -> None:
    project = copy_of_example(tmp_path, env="./.env")
    (project / ".env").write_text("SECRET=1\n")
    (project / ".dockerignore").unlink()
    done = containers.build("localhost/secret:test", project, HEADRACE_IMAGE=headrace)
    assert done.returncode != 0
    assert ".env would be baked into the image" in done.stdout + done.stderr


def test_a_package_is_installed_in_place_and_its_env_file_left_out(
    containers: Containers, headrace: str, tmp_path: Path
) -> None:
    project = copy_of_example(tmp_path, env="./.env")
    (project / ".env").write_text("SECRET=1\n")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "titles"\nversion = "7"\ndependencies = ["python-slugify"]\n'
        '[tool.setuptools]\npy-modules = ["graph"]\n'
    )
    write_dockerfile(project)
    image = containers.built("localhost/package:test", project, HEADRACE_IMAGE=headrace)
    done = containers.once(image, HEADRACE_AUTH="none")
    assert done.stderr.splitlines()[-1].startswith("HR303 "), "the manifest was not taken"
    look = (
        "import importlib.metadata as m, pathlib, graph;"
        " print(m.version('titles'), graph.__file__, pathlib.Path('.env').read_bytes())"
    )
    done = containers.podman("run", "--rm", "--entrypoint=python", *CONFINED, image, "-Pc", look)
    assert done.stdout.split() == ["7", "/app/graph.py", "b''"], done.stderr


def copy_of_example(folder: Path, **keys: str) -> Path:
    """With its Dockerfile; ``keys`` are added to the manifest."""
    project = folder / "project"
    shutil.copytree(EXAMPLE, project)
    manifest = project / "langgraph.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **keys}))
    write_dockerfile(project)
    return project


def write_dockerfile(project: Path) -> None:
    (project / "Dockerfile").write_text(
        dockerfile_for(project / "langgraph.json", image="headrace")
    )
