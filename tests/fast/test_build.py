"""How the accelerator comes into a wheel, and what a place without a compiler gets."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.ways import go

ROOT = Path(__file__).parents[2]
BUILT = "_fast" + str(sysconfig.get_config_var("EXT_SUFFIX"))


class Hook:
    """All that hatchling's own class gives to ours."""

    def __init__(self, root: Path, target_name: str) -> None:
        self.root = str(root)
        self.target_name = target_name
        self.config = {"share": {"docs/man": "man/man1", "docs/gone": "gone"}}
        self.said: list[str] = []
        self.app = SimpleNamespace(display_warning=self.said.append)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which is in no package."""
    interface = ModuleType("interface")
    vars(interface)["BuildHookInterface"] = Hook
    # In an environment that is only to run it, hatchling is not installed.
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin", ModuleType("plugin"))
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin.interface", interface)
    spec = importlib.util.spec_from_file_location("build_fast", ROOT / "build_fast.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "uwsgibridge/fast").mkdir(parents=True)
    for source in (ROOT / "uwsgibridge/fast").glob("*.[ch]"):
        shutil.copy(source, tmp_path / "uwsgibridge/fast")
    return tmp_path


@pytest.fixture
def compiler() -> Iterator[None]:
    """Only where there is one: the accelerator of this run says so."""
    yield from go("accelerated")


def initialized(hook: Any, version: str = "standard") -> dict[str, Any]:
    data: dict[str, Any] = {"force_include": {}, "shared_data": {}}
    hook.initialize(version, data)
    assert data.pop("shared_data") == {}
    return data


@pytest.mark.usefixtures("compiler")
def test_a_wheel_gets_the_built_module(build: ModuleType, checkout: Path) -> None:
    hook = build.AcceleratorHook(checkout, "wheel")
    data = initialized(hook)
    ((made, place),) = data.pop("force_include").items()
    assert data == {"pure_python": False, "infer_tag": True}
    assert place == f"uwsgibridge/fast/{BUILT}"
    module = load(Path(made))
    assert build.digest_of(checkout / "uwsgibridge/fast/_fast.c") == module.SOURCE_DIGEST
    with (checkout / "uwsgibridge/fast/packet.h").open("a") as part:
        part.write("/* changed */\n")
    assert build.digest_of(checkout / "uwsgibridge/fast/_fast.c") != module.SOURCE_DIGEST
    assert not hook.said
    assert not list((checkout / "uwsgibridge/fast").glob("*.so"))
    hook.finalize("standard", data, "")
    assert not Path(made).exists()


def load(path: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader("_fast", str(path))
    spec = importlib.util.spec_from_loader("_fast", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.usefixtures("compiler")
def test_an_editable_installation_keeps_the_module_beside_its_source(
    build: ModuleType, checkout: Path
) -> None:
    hook = build.AcceleratorHook(checkout, "wheel")
    assert initialized(hook, "editable")["force_include"] == {}
    made = checkout / "uwsgibridge/fast" / BUILT
    assert made.exists()
    hook.finalize("editable", {}, "")
    assert made.exists()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/bin/false", "/bin/false: exit status 1"),
        ("/bin/true", "/bin/true has written nothing"),
        ("/no/such/compiler", "/no/such/compiler: No such file or directory"),
        ("sh -c 'echo it is broken >&2; exit 1'", "sh -c .*: it is broken"),
    ],
)
@pytest.mark.parametrize("version", ["standard", "editable"])
def test_without_a_compiler_the_build_goes_on_and_says_why(
    build: ModuleType,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    reason: str,
    version: str,
) -> None:
    monkeypatch.setenv("CC", compiler)
    stale = checkout / "uwsgibridge/fast" / BUILT
    if version == "editable":
        stale.write_text("of another state of the source")
    hook = build.AcceleratorHook(checkout, "wheel")
    assert initialized(hook, version) == {"force_include": {}}
    (said,) = hook.said
    with pytest.raises(build.CannotBuild, match=f"^{reason}$"):
        raise build.CannotBuild(said.removeprefix("uwsgibridge is built without its accelerator: "))
    assert not list((checkout / "uwsgibridge/fast").glob("*.so"))


def test_a_checkout_without_the_source_is_built_without_it(
    build: ModuleType, tmp_path: Path
) -> None:
    """As in the image, where dependencies are installed before the code is there."""
    hook = build.AcceleratorHook(tmp_path, "wheel")
    assert initialized(hook) == {"force_include": {}}
    assert len(hook.said) == 1


def test_a_source_archive_gets_no_module(build: ModuleType, checkout: Path) -> None:
    assert initialized(build.AcceleratorHook(checkout, "sdist")) == {"force_include": {}}


def test_where_it_is_not_for(
    build: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    hook = build.AcceleratorHook(checkout, "wheel")
    assert initialized(hook) == {"force_include": {}}
    assert "Linux" in hook.said[0]


@pytest.mark.usefixtures("compiler")
def test_the_compiler_has_nothing_to_say(build: ModuleType, tmp_path: Path) -> None:
    build.compile_accelerator(ROOT / build.SOURCE, tmp_path / BUILT, "-Wall", "-Wextra", "-Werror")


def test_a_wheel_gets_what_stands_below_share_as_far_as_it_is_there(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/bin/false")
    (tmp_path / "docs/man").mkdir(parents=True)
    data: dict[str, Any] = {"force_include": {}, "shared_data": {}}
    build.AcceleratorHook(tmp_path, "wheel").initialize("standard", data)
    assert data["shared_data"] == {"docs/man": "share/man/man1"}
