"""Builds the accelerator into a wheel, where there is a C compiler; hatchling calls this.

Without one, and on a system or a Python that the accelerator is not for, one line says so, and the wheel is
one of Python alone that does the same.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE: Final = Path("uwsgibridge", "fast", "_fast.c")

_PATIENCE_SECONDS: Final = 300.0


class AcceleratorHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """Adds the accelerator to what hatchling builds, and what stands below share/."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile: beside the source where that is what will be imported, else into the wheel alone."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        for source, place in self.config["share"].items():
            if (root / source).exists():
                build_data["shared_data"][source] = f"share/{place}"
        built = SOURCE.with_name("_fast" + str(sysconfig.get_config_var("EXT_SUFFIX")))
        if version == "editable":
            target = root / built
        else:
            self._directory = tempfile.TemporaryDirectory()  # until `finalize`
            target = Path(self._directory.name, built.name)
        try:
            compile_accelerator(root / SOURCE, target)
        except CannotBuild as error:
            self.finalize(version, build_data, "")
            if version == "editable":
                target.unlink(missing_ok=True)  # of another state of the source
            self.app.display_warning(f"uwsgibridge is built without its accelerator: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"][str(target)] = built.as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was compiled for a wheel."""
        if (directory := getattr(self, "_directory", None)) is not None:
            directory.cleanup()


class CannotBuild(Exception):
    """There is nothing to build the accelerator with, or for; in words."""


def compile_accelerator(source: Path, target: Path, *further: str) -> None:
    """Compile the accelerator for the Python that runs this.

    Args:
        source: the C file; its parts are beside it.
        target: the shared object to write; stays as it is where that fails.
        further: arguments for the compiler.

    Raises:
        CannotBuild: there is no compiler that does it.
    """
    if sys.platform != "linux":
        raise CannotBuild("it is for Linux")
    if sys.implementation.name != "cpython":
        raise CannotBuild("it is for CPython")
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if not source.exists():
        raise CannotBuild(f"{source.name} is not there")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    command = [
        *shlex.split(compiler),
        # The same bytes wherever it is built: https://reproducible-builds.org/docs/build-path/
        f"-ffile-prefix-map={source.parents[2]}=.",
        *("-shared", "-fPIC", "-O3", "-fwrapv", "-fvisibility=hidden", "-DNDEBUG"),
        f'-DSOURCE_DIGEST="{digest_of(source)}"',
        f"-I{sysconfig.get_path('include')}",
        f"-I{sysconfig.get_path('platinclude')}",
        *shlex.split(os.environ.get("CFLAGS", "")),
        *further,
        str(source),
        *("-o", str(beside)),
        *shlex.split(os.environ.get("LDFLAGS", "")),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that this Python was built with, or CC
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            reason = said[0] if said else f"exit status {done.returncode}"
            raise CannotBuild(f"{compiler}: {reason}")
        if not beside.exists():
            raise CannotBuild(f"{compiler} has written nothing")
        beside.replace(target)
    except OSError as error:
        raise CannotBuild(f"{compiler}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"{compiler} takes longer than {_PATIENCE_SECONDS:g} s") from None
    finally:
        beside.unlink(missing_ok=True)


def digest_of(source: Path) -> str:
    """Give the CRC-32 that the accelerator has of its source: the C file, and its parts beside it."""
    digest = zlib.crc32(source.read_bytes())
    for part in sorted(source.parent.glob("*.h")):
        digest = zlib.crc32(part.read_bytes(), digest)
    return f"{digest:08x}"
