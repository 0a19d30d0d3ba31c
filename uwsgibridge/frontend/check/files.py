"""Follows the includes of a configuration, on disk or in what ``nginx -T`` has printed."""

from __future__ import annotations

import errno
import fnmatch
import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from uwsgibridge.frontend.check.reading import Directive, ReadingError, read

# Where packages have their configuration; an include that names a file there is looked for below the prefix first.
_STANDARD_PREFIXES: Final = ("/etc/nginx", "/usr/local/nginx/conf", "/usr/local/etc/nginx")
_MOST_FILE_BYTES: Final = 4 * 1024 * 1024
_MOST_DEPTH: Final = 32
_MOST_FILES: Final = 2000
_MAGIC: Final = re.compile(r"[*?[]")
_DUMPED: Final = re.compile(r"^# configuration file (/.+):$", re.MULTILINE)

# The fewest and the most arguments of the directives that everything here depends on.
_ARGUMENTS: Final = {"include": (1, 1), "uwsgi_pass": (1, 1), "uwsgi_param": (2, 3)}

# What Nginx's own packages bring along. Where such a file is not found, it is taken for what nginx.org ships.
_STOCK_PARAMS: Final = """
uwsgi_param QUERY_STRING $query_string;
uwsgi_param REQUEST_METHOD $request_method;
uwsgi_param CONTENT_TYPE $content_type;
uwsgi_param CONTENT_LENGTH $content_length;
uwsgi_param REQUEST_URI $request_uri;
uwsgi_param PATH_INFO $document_uri;
uwsgi_param DOCUMENT_ROOT $document_root;
uwsgi_param SERVER_PROTOCOL $server_protocol;
uwsgi_param REQUEST_SCHEME $scheme;
uwsgi_param HTTPS $https if_not_empty;
uwsgi_param REMOTE_ADDR $remote_addr;
uwsgi_param REMOTE_PORT $remote_port;
uwsgi_param SERVER_PORT $server_port;
uwsgi_param SERVER_NAME $server_name;
"""
_STOCK_FILES: Final[Mapping[str, str]] = {
    "uwsgi_params": _STOCK_PARAMS,
    "uwsgi_params.default": _STOCK_PARAMS,
    **dict.fromkeys(
        [
            "mime.types",
            "fastcgi_params",
            "fastcgi.conf",
            "scgi_params",
            "proxy_params",
            "koi-utf",
            "koi-win",
            "win-utf",
            "options-ssl-nginx.conf",
            "fastcgi-php.conf",
        ],
        "",
    ),
}


class Files(Protocol):
    """Where the files of a configuration are."""

    def read(self, path: str) -> str:
        """Read a file.

        Raises:
            OSError: there is none, or it can't be read.
        """

    def find(self, pattern: str) -> list[str]:
        """Give the files that a pattern of an include names, in Nginx's order."""


class Disk:
    """The files of this machine."""

    def read(self, path: str) -> str:
        """Read a file; bytes that are not UTF-8 become replacement characters."""
        with Path(path).open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
        if len(data) > _MOST_FILE_BYTES:
            raise OSError(f"it is larger than {_MOST_FILE_BYTES} bytes")
        return data.decode("utf-8", "replace")

    def find(self, pattern: str) -> list[str]:
        """Give the files of a pattern, sorted as glob(3) sorts them."""
        # glob() of pathlib would know ** and hidden files in another way than glob(3) does.
        return sorted(path for path in glob.glob(pattern) if not Path(path).is_dir())  # noqa: PTH207


class Dump:
    """The files that ``nginx -T`` has printed, one after the other."""

    def __init__(self, text: str) -> None:
        pieces = _DUMPED.split(text)
        # Nginx prints a file once, however often it is included.
        self.texts = {
            path: body.removeprefix("\n")
            for path, body in zip(pieces[1::2], pieces[2::2], strict=True)
        }
        self.main = next(iter(self.texts), "")

    @staticmethod
    def is_one(text: str) -> bool:
        """Whether a text is what ``nginx -T`` prints."""
        return _DUMPED.search(text) is not None

    def read(self, path: str) -> str:
        """Give the text of a file that was printed."""
        try:
            return self.texts[path]
        except KeyError:
            raise FileNotFoundError(f"{path} is not in what nginx -T has printed") from None

    def find(self, pattern: str) -> list[str]:
        """Give those that a pattern names."""
        parent = str(PurePosixPath(pattern).parent)
        return sorted(
            path
            for path in self.texts
            if fnmatch.fnmatchcase(path, pattern)
            and (_MAGIC.search(parent) or str(PurePosixPath(path).parent) == parent)
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """An include whose file was not found, or not readable.

    Attributes:
        include: the directive.
        reason: a clause that says why.
    """

    include: Directive
    reason: str


@dataclass(slots=True)
class Loader:
    """Reads a file with all that it includes.

    Args:
        files: where they are.
        prefix: the directory that relative includes are below, Nginx's ``conf`` prefix. Files of /etc/nginx are
            looked for there first, so that a checkout can be checked before it is installed.
    """

    files: Files
    prefix: str
    missing: list[Missing] = field(default_factory=list)
    read_files: list[str] = field(default_factory=list)

    def load(self, text: str, file: str) -> tuple[Directive, ...]:
        """Read a text, with its includes in their places; one that is not found stays as it is.

        Raises:
            ReadingError: the text or an included one is no configuration, or includes go in a circle.
        """
        self.read_files.append(file)
        return self._expand(read(text, file), 0)

    def _expand(self, directives: tuple[Directive, ...], depth: int) -> tuple[Directive, ...]:
        expanded: list[Directive] = []
        for directive in directives:
            _check_number(directive)
            if directive.name == "include" and directive.block is None:
                expanded.extend(self._include(directive, depth + 1))
            elif directive.block:
                expanded.append(replace(directive, block=self._expand(directive.block, depth)))
            else:
                expanded.append(directive)
        return tuple(expanded)

    def _include(self, include: Directive, depth: int) -> tuple[Directive, ...]:
        if depth > _MOST_DEPTH:
            raise ReadingError(
                include.file, include.line, f"includes are more than {_MOST_DEPTH} deep: a circle?"
            )
        pattern = include.value
        places = self._places(pattern)
        if _MAGIC.search(pattern):
            # A pattern that names nothing is no error of Nginx's.
            found = next((paths for place in places if (paths := self.files.find(place))), [])
        else:
            found = []
            reason = "there is no such file"
            for place in places:
                try:
                    return self._expand(self._read(include, place, self.files.read(place)), depth)
                except OSError as error:
                    reason = (
                        (error.strerror or str(error)) if error.errno != errno.ENOENT else reason
                    )
            stock = _STOCK_FILES.get(PurePosixPath(pattern).name)
            if stock is not None:
                return tuple(
                    replace(directive, line=include.line) for directive in read(stock, include.file)
                )
            self.missing.append(Missing(include, reason))
            return (include,)
        expanded: list[Directive] = []
        for path in found:
            try:
                text = self.files.read(path)
            except OSError as error:
                self.missing.append(Missing(include, f"{path}: {error.strerror or error}"))
                expanded.append(include)
            else:
                expanded.extend(self._expand(self._read(include, path, text), depth))
        return tuple(expanded)

    def _read(self, include: Directive, path: str, text: str) -> tuple[Directive, ...]:
        if len(self.read_files) >= _MOST_FILES:
            raise ReadingError(
                include.file, include.line, f"it includes more than {_MOST_FILES} files"
            )
        self.read_files.append(path)
        return read(text, path)

    def _places(self, pattern: str) -> list[str]:
        """Give the paths that an include may mean, the best one first."""
        if not pattern.startswith("/"):
            return [str(Path(self.prefix) / pattern)]
        places = [
            str(Path(self.prefix) / pattern[len(standard) + 1 :])
            for standard in _STANDARD_PREFIXES
            if pattern.startswith(f"{standard}/") and self.prefix != standard
        ]
        return [*places, pattern]


def _check_number(directive: Directive) -> None:
    """Refuse what has too many arguments, as behind a line without its semicolon."""
    least, most = _ARGUMENTS.get(directive.name, (0, len(directive.args)))
    if not least <= len(directive.args) <= most:
        raise ReadingError(
            directive.file,
            directive.line,
            f'invalid number of arguments in "{directive.name}": is a semicolon missing?',
        )


def find_prefix(file: str) -> str:
    """Say which directory relative includes of a file are below.

    That is the nearest directory above it with an ``nginx.conf``, such as /etc/nginx for a file of its sites-enabled,
    else the file's own.
    """
    directories = Path(file).absolute().parents
    above = next((it for it in directories if (it / "nginx.conf").exists()), directories[0])
    return str(above)
