#!/usr/bin/env bash
# structlog 26.1.0 with rich 15.0.0: `import structlog` imports rich and Pygments where they happen to be installed.
#
# structlog needs neither. Its module for developers, which `import structlog` always loads, takes rich for tracebacks if
# it can be imported. So a web framework that depends on rich for its command line (litestar 2, typer's standard
# extra) makes each process that logs by structlog load over fifty modules more, also one that writes JSON.
#
# Output seen:
#   alone: 0 modules of rich and Pygments
#   beside rich: more than 50 modules of rich and Pygments
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"

cat > "$work/count.py" <<'PYTHON'
import sys

import structlog

structlog.processors.JSONRenderer()
loaded = [name for name in sys.modules if name.partition(".")[0] in {"rich", "pygments"}]
how_many = "more than 50" if len(loaded) > 50 else len(loaded)
print(f"{sys.argv[1]}: {how_many} modules of rich and Pygments")
PYTHON

{
  "$work/venv/bin/pip" install --quiet 'structlog==26.1.0'
  timeout 60 "$work/venv/bin/python" "$work/count.py" alone
  "$work/venv/bin/pip" install --quiet 'rich==15.0.0' 'Pygments==2.21.0'
  timeout 60 "$work/venv/bin/python" "$work/count.py" "beside rich"
} | tee "$work/out"
diff - "$work/out" <<'SEEN'
alone: 0 modules of rich and Pygments
beside rich: more than 50 modules of rich and Pygments
SEEN
