"""Configurations of uWSGI, each with what uWSGI 2.0.31 makes of it, as its ``--show-config`` prints it.

`tests.migration.uwsgi.test_reading` holds the reader against what is recorded here, and
`tests.migration.uwsgi.test_real_uwsgi` against a real uWSGI, where one is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# What stands for the directory of the start in files and in what is expected.
START: Final = "{START}"


@dataclass(frozen=True)
class Configuration:
    """Files, a command line and variables, and what comes of them.

    Attributes:
        name: of the test.
        expected: names and values, in uWSGI's order; empty where uWSGI does not start.
        files: their texts by their names.
        arguments: of the command line.
        environ: variables beside those that every process has.
        refusal: a part of our error; uWSGI does not start either, if `is_only_ours` does not say otherwise.
        is_only_ours: what uWSGI does not refuse, or reads otherwise from build to build.
    """

    name: str
    expected: tuple[tuple[str, str], ...] = ()
    files: dict[str, str | bytes] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("--ini", "a.ini")
    environ: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    is_only_ours: bool = False


def _ini(
    name: str, text: str | bytes, *expected: tuple[str, str], environ: dict[str, str] | None = None,
    refusal: str = "", is_only_ours: bool = False, **others: str,
) -> Configuration:  # fmt: skip
    """Make a configuration that is one ini; other files have an underscore for the dot in their names."""
    files: dict[str, str | bytes] = {
        it.replace("_", "."): content for it, content in others.items()
    }
    body = text if isinstance(text, bytes) else f"[uwsgi]\n{text}"
    return Configuration(
        name,
        (("ini", "a.ini"), *expected) if not refusal else (),
        files | {"a.ini": body},
        environ=environ or {},
        refusal=refusal,
        is_only_ours=is_only_ours,
    )


INI: Final = (
    # 1
    _ini("comments behind values are values", "processes = 4 # four\nsocket = a.sock ; here\n",
         ("processes", "4 # four"), ("socket", "a.sock ; here")),
    _ini("comments have lines of their own", "; a\n  # b\n\tprocesses = 4\n# c\n", ("processes", "4")),
    # 2
    _ini("a name alone has an empty value", "vacuum\nmaster =\nlazy-apps = false # no\n",
         ("vacuum", ""), ("master", ""), ("lazy-apps", "false # no")),
    # 3
    _ini("a placeholder is the first value", "processes = 2\nprocesses = 5\nx = %(processes)\n",
         ("processes", "2"), ("processes", "5"), ("x", "2")),
    # 6
    _ini("an environment's value is looked through again", "module = m\nx = $(A)\n",
         ("module", "m"), ("x", "<m>"), environ={"A": "<%(module)>"}),
    _ini("env sets nothing that $( ) sees", "env = X=1\nx = <$(X)>\n", ("env", "X=1"), ("x", "<$(X)>")),
    _ini("what is applied at once keeps its placeholders", "n = 5\nlisten = %(n)\numask = $(U)\n",
         ("n", "5"), ("listen", "%(n)"), ("umask", "$(U)"), environ={"U": "022"}),
    _ini("include takes a placeholder literally", "include = $(F)\n", environ={"F": "b.ini"},
         refusal="a.ini:2: '$(F)' does not end in one of .ini"),
    _ini("include takes a placeholder with an ending literally", "include = $(F).ini\n", environ={"F": "b"},
         refusal="uWSGI opens it before it replaces placeholders", b_ini="[uwsgi]\n"),
    # 7
    _ini("an unset variable stays", "socket = 127.0.0.1:$(UNSET)\nx = ${A} $A\n",
         ("socket", "127.0.0.1:$(UNSET)"), ("x", "${A} $A"), environ={"A": "1"}),
    # 8
    _ini("a letter without a meaning vanishes", "x = a%zb%%c\n", ("x", "ab%c")),
    _ini("% at the end of a line takes the line's end", "x1 = 50%\nx2 = b\n", ("x1", "50x2 = b")),
    _ini("a comment's % counts too", "# 100%\nx = 1\ny = 2\n", ("y", "2")),
    # 9
    _ini("magic letters", "a = %d|%n|%s|%e\nb = %p\nc = %v\nd = %x|\n",
         ("a", f"{START}/|a|a.ini|ini"), ("b", f"{START}/a.ini"), ("c", START), ("d", "|")),
    _ini("an escaped byte of a URL is a letter of magic", "x = p%90ss\n", ("x", "p0ss")),
    # 10
    _ini("capital letters are of the first file", "x = %N %S %P\ninclude = b.ini\n",
         ("x", f"a a.ini {START}/a.ini"), ("include", "b.ini"), ("y", "b a"),
         b_ini="[uwsgi]\ny = %n %N\n"),
    Configuration("a file without --ini is not the first one", (("x", "<> a"),),
                  {"a.ini": "[uwsgi]\nx = <%N%S%P> %n\n"}, ("a.ini",)),
    # 12
    _ini("calculations", "a = 3\nb = 4\nc = %(a * 2 + 1)\nd = %(a a)\ne = %(a + 1 b)\nf = %(b / a - 3)\ng = %(7 / 0)\n"
         "h = %(a ++)\ni = %(later)\nlater = %(a)\nj = %(b -- - 5)\nk = %(no + 1)\nl = %(-7)\n",
         ("a", "3"), ("b", "4"), ("c", "7"), ("d", "33"), ("e", "44"), ("f", "-2"), ("g", "0"), ("h", "4"),
         ("i", "%(a)"), ("later", "3"), ("j", "-2"), ("k", "1"), ("l", "%(-7)")),
    _ini("an unknown placeholder stays", "x = %(nothing)/a\nlog-format = %(method) %(x)\n",
         ("x", "%(nothing)/a"), ("log-format", "%(method) %(nothing)/a")),
    _ini("what is put in is looked through from its second character on", "a = %(z)\nb = x%(z)\nz = %(y)\ny = 1\n",
         ("a", "%(y)"), ("b", "x1"), ("z", "1"), ("y", "1")),
    _ini("a value that counts on itself", "a = 9\nb = %(a + 1)#%(b / a)\n", ("a", "9"), ("b", "10#1")),
    _ini("brackets within placeholders", "x = $(A(B))\ny = $()\nw = -$(C$(D))\nz = $$(D)\n",
         ("x", "1"), ("y", "$()"), ("w", "-2"), ("z", "$d"), environ={"A(B)": "1", "D": "d", "Cd": "2"}),
    # 13
    _ini("a file's text", "x = <@(b.txt)>\ny = @(c.txt)\n", ("x", "<one\ntwo\n>"), ("y", ""),
         b_txt="one\ntwo\n\n", c_txt="", is_only_ours=True),
    _ini("a file's one line", "x = <@(b.txt)>\n", ("x", "<secret>"), b_txt="secret\n"),
    _ini("a missing text", "x = @(nothing.txt)\n", refusal="a.ini:2: 'nothing.txt' can't be read: No such file"),
    # 15
    _ini("sections of one name add up", "a = 1\n[other]\nb = 2\n[uwsgi]\nc = 3\n", ("a", "1"), ("c", "3")),
    _ini("a section's last character is not looked at", b"[uwsgi)\na = 1\n", ("a", "1")),
    _ini("a comment behind a section", b"[uwsgi] ; here\na = 1\n", refusal="'[uwsgi] ; here' has to be [uwsgi]",
         is_only_ours=True),
    _ini("spaces in a section", b"[ uwsgi ]\na = 1\n", refusal="'[ uwsgi ]' has to be [uwsgi]", is_only_ours=True),
    _ini("a section in capitals", b"[UWSGI]\na = 1\n", refusal="'[UWSGI]' has to be [uwsgi]", is_only_ours=True),
    _ini("a byte order mark", b"\xef\xbb\xbf[uwsgi]\na = 1\n", refusal="byte order mark", is_only_ours=True),
    _ini("no section", b"a = 1\n", refusal="put [uwsgi] on a line of its own", is_only_ours=True),
    Configuration("a section by name", (("ini", "a.ini:prod"), ("b", "prod")),
                  {"a.ini": "[uwsgi]\na = 1\n[prod]\nb = %x\n"}, ("--ini", "a.ini:prod")),
    _ini("another section of the same file", "a = 1\nini = :base\nb = %(c)\n[base]\nc = 3\nd = %x\n",
         ("a", "1"), ("ini", ":base"), ("c", "3"), ("d", "base"), ("b", "3")),
    _ini("the file that was read last", "include = b.ini\nini = :base\n[base]\nc = 3\n",
         ("include", "b.ini"), ("b", "1"), ("ini", ":base"), ("c", "of b"),
         b_ini="[uwsgi]\nb = 1\n[base]\nc = of b\n"),
    # 16
    _ini("include is read at its place", "a = 1\ninclude = b.ini\na = 3\n",
         ("a", "1"), ("include", "b.ini"), ("a", "2"), ("b", "3"), ("a", "3"), b_ini="[uwsgi]\na = 2\nb = %(a ++ ++)\n"),
    _ini("inherit comes last", "inherit = b.ini\na = $(A)\nc = %(a)\n",
         ("inherit", "b.ini"), ("a", "1"), ("c", "1"), ("b", "$(A) %(a)"),
         b_ini="[uwsgi]\nb = $(A) %(a)\n", environ={"A": "1"}),
    # 17
    _ini("no colons, no quotes, no lines that go on", 'a: 1\nmodule = "app"\nb = 1\n  and = 2\n',
         ("a: 1", ""), ("module", '"app"'), ("b", "1"), ("and", "2")),
    _ini("equals signs and spaces", "a=b=c\n  d   =\t e  \r\n= f\n", ("a", "b=c"), ("d", "e"), ("", "f")),
    _ini("no line end at the end", "a = 1", ("a", "1")),
    # 37
    _ini("a condition that holds", "if-env = A\na = %(_)\nendif =\nb = 1\n",
         ("if-env", "A"), ("a", "x"), ("endif", ""), ("b", "1"), environ={"A": "x"}),
    _ini("a condition that does not hold", "if-env = A\na = %(_)\nendif =\nb = 1\n",
         ("if-env", "A"), ("endif", ""), ("b", "1")),
    _ini("a condition with a value", "if-env = A=1\na = %(_)\nend =\nif-not-env = A=1\nb = %(_)\nend-if =\n",
         ("if-env", "A=1"), ("end", ""), ("if-not-env", "A=1"), ("b", "2"), ("end-if", ""), environ={"A": "2"}),
    _ini("a block without an end", "if-env = A\na = 1\nb = 1\n", ("if-env", "A")),
    _ini("a block within a block that does not hold", "if-env = A\nif-env = B\na = 1\nendif =\nb = 1\nendif =\n",
         ("if-env", "A"), ("endif", ""), ("b", "1"), ("endif", ""), environ={"B": "1"}),
    _ini("a block within a block", "if-env = A\nif-env = B\na = 1\nendif =\nendif =\n", environ={"A": "1", "B": "1"},
         refusal="a.ini:3: if-env stands between if-env (a.ini:2) and its end"),
    _ini("a condition is looked at again at each line", "if-not-opt = a\na = 1\nb = 2\nendif =\n",
         ("if-not-opt", "a"), ("a", "1"), ("endif", "")),
    _ini("conditions on options", "a = 1\nif-opt = a=1\nb = %(_)\nendif =\nif-opt = a=2\nc = 1\nendif =\n",
         ("a", "1"), ("if-opt", "a=1"), ("b", "1"), ("endif", ""), ("if-opt", "a=2"), ("endif", "")),
    _ini("conditions on files",
         "if-file = b.txt\na = %(_)\nendif =\nif-dir = b.txt\nb = 1\nendif =\nif-exists = b.txt\nc = 1\nendif =\n"
         "if-not-file = x\nd = %(_)\nendif =\nif-not-dir = .\ne = 1\nendif =\nif-not-exists = x\nf = 1\nendif =\n",
         ("if-file", "b.txt"), ("a", "b.txt"), ("endif", ""), ("if-dir", "b.txt"), ("endif", ""), ("if-exists", "b.txt"),
         ("c", "1"), ("endif", ""), ("if-not-file", "x"), ("d", "x"), ("endif", ""), ("if-not-dir", "."), ("endif", ""),
         ("if-not-exists", "x"), ("f", "1"), ("endif", ""), b_txt=""),
    _ini("conditions on plugins, hosts and reloads",
         "if-plugin = python\na = 1\nendif =\nif-not-plugin = python\nb = 1\nendif =\nif-not-hostname = no.such.host\n"
         "c = 1\nendif =\nif-hostname = no.such.host\nd = 1\nendif =\nif-reload =\ne = 1\nendif =\nif-not-reload =\n"
         "f = %(_)\nendif =\n",
         ("if-plugin", "python"), ("a", "1"), ("endif", ""), ("if-not-plugin", "python"), ("endif", ""),
         ("if-not-hostname", "no.such.host"), ("c", "1"), ("endif", ""), ("if-hostname", "no.such.host"), ("endif", ""),
         ("if-reload", ""), ("endif", ""), ("if-not-reload", ""), ("f", "%(_)"), ("endif", "")),
    _ini("a loop repeats each line by itself", "for = 1 2\na = %(_)\nb = x%(_)\nendfor =\nc = %(_)\n",
         ("for", "1 2"), ("a", "1"), ("a", "2"), ("b", "x1"), ("b", "x2"), ("endfor", ""), ("c", "%(_)")),
    _ini("loops", "for-times = 2\na = %(_)\nend-for =\nfor-readline = b.txt\nb = %(_)\nendfor =\nfor-glob = *.txt\n"
         "c = %(_)\nendfor =\nfor-glob = *.no\nd = %(_)\nendfor =\n",
         ("for-times", "2"), ("a", "1"), ("a", "2"), ("end-for", ""), ("for-readline", "b.txt"), ("b", "x"), ("b", "y z"),
         ("endfor", ""), ("for-glob", "*.txt"), ("c", "b.txt"), ("c", "c.txt"), ("endfor", ""), ("for-glob", "*.no"),
         ("d", "*.no"), ("endfor", ""), b_txt="x\r\ny z\n", c_txt=""),
    _ini("a block takes what is included in it", "if-env = A\ninclude = b.ini\nendif =\nd = 1\n",
         ("if-env", "A"), ("include", "b.ini"), ("b", "1"), ("endif", ""), ("c", "1"), ("endif", ""), ("d", "1"),
         b_ini="[uwsgi]\nb = 1\nendif =\nc = 1\n", environ={"A": "1"}),
    # set
    _ini("set makes a setting", "set = processes=3\nset = a=1\nb = %(a)%(processes)\n",
         ("set", "processes=3"), ("processes", "3"), ("set", "a=1"), ("a", "1"), ("b", "13")),
    _ini("a placeholder by name", "set-ph = a=$(A)\nset-placeholder = b=2\nc = %(a)%(b)\n",
         ("set-ph", "a=$(A)"), ("a", "$(A)"), ("set-placeholder", "b=2"), ("b", "2"), ("c", "$(A)2"),
         environ={"A": "1"}),
    _ini("a placeholder that is an option", "set-ph = processes=3\n", refusal="processes is an option and no placeholder"),
    _ini("set without a value", "set = a\n", refusal="has to be of the form set = name=value"),
    # 41
    _ini("env keeps its spaces", 'env = B = x\nenv = C\nenv = D="q"\n', ("env", "B = x"), ("env", "C"), ("env", 'D="q"')),
)  # fmt: skip

_A: Final[dict[str, str | bytes]] = {"a.ini": "[uwsgi]\nprocesses = 1\n"}

COMMAND_LINES: Final = (
    # 4
    Configuration("a file without --ini comes last", (("processes", "3"), ("processes", "1")), _A, ("a.ini", "-p", "3")),
    Configuration("--ini is read at its place", (("ini", "a.ini"), ("processes", "1"), ("processes", "3")), _A,
                  ("--ini", "a.ini", "-p", "3")),
    Configuration("--ini is read after what stands before it", (("processes", "3"), ("ini", "a.ini"), ("processes", "1")),
                  _A, ("-p3", "--ini=a.ini")),
    # 5
    Configuration("variables come first", (("processes", "3"), ("ini", "a.ini"), ("processes", "1")), _A,
                  environ={"UWSGI_PROCESSES": "3"}),
    Configuration("a variable names a file", (("ini", "a.ini"), ("processes", "1"), ("x-y", "1")), _A, (),
                  {"UWSGI_INI": "a.ini", "UWSGI_X_Y": "%(processes)", "UWSGI_JAIL_PID": "0"}),
    # 14
    Configuration("flags have no value", (("master", "true"), ("set", "x=%(master)"), ("x", "%(master)")), {},
                  ("--master", "--set", "x=%(master)")),
    Configuration("a flag with a value", arguments=("--master=false",), refusal="--master is a flag"),
    Configuration("an unknown option", arguments=("--vaccum",), refusal="no option --vaccum; did you mean --vacuum?"),
    Configuration("an unknown letter", arguments=("-k",), refusal="no option -k"),
    Configuration("a value is missing", arguments=("--processes",), refusal="--processes needs a value"),
    Configuration("a value of a letter is missing", arguments=("-p",), refusal="-p needs a value"),
    Configuration("names in part", (("vacuum", "true"), ("thunder-lock", "true")), {}, ("--vacu", "--thunder")),
    Configuration("a name in part that is no single one", arguments=("--log",), refusal="is the beginning of"),
    Configuration("letters side by side", (("master", "true"), ("memory-report", "true"), ("processes", "2")), {},
                  ("-Mmp2",)),
    Configuration("values that may be left out", (("chmod-socket", "true"), ("chmod-socket", "666"), ("chmod-socket", "660")),
                  {}, ("--chmod-socket", "-C666", "--chmod-socket=660")),
    Configuration("placeholders of the command line", (("set-ph", "x=1%d"), ("x", "1%d"), ("set", "y=%(x)$(A)"), ("y", "1%d$")), {},
                  ("--set-ph", "x=1%d", "--set", "y=%(x)$(A)"), {"A": "$"}),
    Configuration("a title", (("processes", "1"),), _A, ("a.ini", "[title]")),
    Configuration("behind two dashes are files", (("processes", "1"),), _A, ("--", "a.ini")),
    # 36
    Configuration("another ending", files={"a.conf": "[uwsgi]\n"}, arguments=("a.conf",), refusal="does not end in one of"),
    Configuration("another ending by --ini", (("ini", "a.conf"), ("a", "1")), {"a.conf": "[uwsgi]\na = 1\n"},
                  ("--ini", "a.conf")),
    Configuration("a section of a file without --ini", files=_A, arguments=("a.ini:uwsgi",),
                  refusal="does not end in one of"),
    Configuration("a missing file", arguments=("a.ini",), refusal="the command line: 'a.ini' can't be read: No such file"),
    Configuration("blocks of the command line", (("if-env", "A"), ("processes", "2"), ("endif", "true")), {},
                  ("--if-env", "A", "-p", "2", "--endif"), {"A": "1"}),
)  # fmt: skip


def _yaml(name: str, text: str, *expected: tuple[str, str], **others: object) -> Configuration:
    return Configuration(
        name, (("yaml", "a.yaml"), *expected), {"a.yaml": text}, ("--yaml", "a.yaml"), **others  # type: ignore[arg-type]
    )  # fmt: skip


# 34; where uWSGI was built without libyaml.
FLAT_YAML: Final = (
    _yaml("names and values", "# c\nother:\n  a: 1\nuwsgi:\n  processes: 4\n\n  # c\n  socket: /tmp/a b.sock # c\n"
          "  x: a:b\nrest:\n  y: 1\n",
          ("processes", "4"), ("socket", "/tmp/a b.sock"), ("x", "a:b")),
    _yaml("names repeat", "---\nuwsgi:\n    env: A=1\n    env: B=%d\n", ("env", "A=1"), ("env", f"B={START}/")),
    _yaml("what libyaml can't read has one reading", 'uwsgi:\n  base: /srv\n  chdir: %(base)/a\n  x: "q"\n',
          ("base", "/srv"), ("chdir", "/srv/a"), ("x", '"q"')),
    _yaml("a value with a colon and a space", "uwsgi:\n  x: a: b\n  y: 1#2\n", ("x", "a: b"), ("y", "1")),
)  # fmt: skip

# 35
XML: Final = (
    Configuration("elements in their order", (("xml", "a.xml"), ("master", "1"), ("processes", " 3 "), ("x", "<1> &")),
                  {"a.xml": "<uwsgi>\n<master/>\n<processes> 3 </processes>\n<!-- c -->\n<x>$(A)</x>\n</uwsgi>\n"},
                  ("--xml", "a.xml"), {"A": "<1> &"}),
    Configuration("an element within another one", (("xml", "a.xml"), ("x", "a.xml")),
                  {"a.xml": "<c><uwsgi><x>%s</x></uwsgi></c>"}, ("--xml", "a.xml")),
    Configuration("XML that is none", files={"a.xml": "<uwsgi>\n<x>\n</uwsgi>"}, arguments=("--xml", "a.xml"),
                  refusal="a.xml:3: it is no XML: mismatched tag"),
)  # fmt: skip

JSON: Final = (
    Configuration("values of JSON",
                  (("json", "a.json"), ("a", "x"), ("b", "1"), ("c", "0"), ("d", "0"), ("e", "12"), ("f", "1"), ("f", "y")),
                  {"a.json": '{"x": 1, "uwsgi": {"a": "x", "b": true, "c": false,\n"d": null, "e": 12, "f": [1, "y"]}}'},
                  ("--json", "a.json")),
    Configuration("JSON without the object", files={"a.json": "{}"}, arguments=("a.json",), refusal='no object "uwsgi"'),
)  # fmt: skip

CONFIGURATIONS: Final = (*INI, *COMMAND_LINES, *FLAT_YAML, *XML, *JSON)


@dataclass(frozen=True)
class TwoReadings:
    """A text that builds of uWSGI read in two ways.

    Attributes:
        text: of the file.
        first: what libyaml or libxml2 makes of it; None where uWSGI does not start then.
        second: what uWSGI's own reader of YAML, or expat, makes of it.
    """

    text: str
    first: tuple[tuple[str, str], ...] | None
    second: tuple[tuple[str, str], ...]


def _yaml_line(line: str, first: str, second: str) -> TwoReadings:
    """Make a text with one such line between two others."""
    a, b = ("a", "1"), ("b", "1")
    return TwoReadings(
        f"uwsgi:\n  a: 1\n  {line}\n  b: 1\n", (a, ("x", first), b), (a, ("x", second), b)
    )


_A1: Final = ("a", "1")
_B1: Final = ("b", "1")
YAML_OF_TWO_READINGS: Final = (
    _yaml_line('x: "3"', "3", '"3"'),
    _yaml_line("x: 'it''s' # c", "it's", "'it''s'"),
    _yaml_line(r'x: "a\"b"', 'a"b', r'"a\"b"'),
    _yaml_line("x: a#b", "a#b", "a"),
    _yaml_line("x: [1]", "1", "[1]"),
    _yaml_line("x: 3\r", "3", "3\r"),
    TwoReadings("uwsgi:\n  a: 1\n  x:\n    - p\n    - q\n  b: 1\n", (_A1, ("x", "p"), ("x", "q"), _B1), (_A1,)),
    TwoReadings("uwsgi:\n  a: 1\n  x:\n  - p\n  b: 1\n", (_A1, ("x", "p"), _B1), (_A1,)),
    TwoReadings("uwsgi:\n  a: 1\n  x:\n  b: 1\n", (_A1, _B1), (_A1,)),
    TwoReadings("uwsgi:\n  a: 1\n  x: [p, q]\n", (_A1, ("x", "p"), ("x", "q")), (_A1, ("x", "[p, q]"))),
)  # fmt: skip
# Where libyaml ends the start, the other reading is the only one.
YAML_OF_ONE_READING: Final = (
    TwoReadings("uwsgi:\n  a: 1\n  x: %(a)\n", None, (_A1, ("x", "1"))),
    TwoReadings("uwsgi:\n  a: 1\n  x: @(a.yaml\n", None, (_A1, ("x", "@(a.yaml"))),
    TwoReadings("uwsgi:\n  a: 1\n  x: p: q\n", None, (_A1, ("x", "p: q"))),
    TwoReadings("uwsgi:\n\ta: 1\n", None, (_A1,)),
    TwoReadings("uwsgi:\n  a: 1\n  %(a): 2\n", None, (_A1, ("%(a)", "2"))),
)
XML_OF_TWO_READINGS: Final = (
    TwoReadings("<uwsgi><x>a&amp;b</x></uwsgi>", (("x", "a&b"),), (("x", "a"),)),
    TwoReadings("<uwsgi><x>a&#65;</x></uwsgi>", (("x", "aA"),), (("x", "a"),)),
)
